// Names of Gradio's upload areas, for those who hear the page: what they are for, and the visible words.
const mend = () => {
  for (const button of document.querySelectorAll("button[aria-label='Click to upload or drop files']")) {
    const label = button.closest(".block")?.querySelector("[data-testid='block-label']");
    const visible = button.innerText.replace(/\s+/g, " ").trim();
    if (visible) button.setAttribute("aria-label", `${label ? label.innerText.trim() + ": " : ""}${visible}`);
  }
};
new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
