// Of a component made by `events.sketchpad`: its value is a PNG of what is drawn, "" where nothing is.
const SIDE = 400, INK = 16;
let last = null;

const canvas = () => element.querySelector("canvas");
const pen = () => {
  const context = canvas().getContext("2d");
  Object.assign(context, { lineWidth: INK, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
  return context;
};
const place = (event) => {
  const box = canvas().getBoundingClientRect();
  return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
};
const stroke = (to) => {
  const context = pen();
  context.beginPath();
  context.moveTo(...last);
  context.lineTo(...to);
  context.stroke();
  last = to;
};
const restore = () => {
  if (element.dataset.drawn === (props.value || "")) return;
  element.dataset.drawn = props.value || "";
  pen().clearRect(0, 0, SIDE, SIDE);
  if (!props.value) return;
  const image = new Image();
  image.onload = () => pen().drawImage(image, 0, 0);
  image.src = props.value;
};

element.addEventListener("pointerdown", (event) => {
  if (event.target !== canvas() || event.button) return;
  event.preventDefault();
  canvas().setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last);
});
element.addEventListener("pointermove", (event) => last && stroke(place(event)));
const end = () => {
  if (!last) return;
  last = null;
  element.dataset.drawn = canvas().toDataURL("image/png");
  props.value = element.dataset.drawn;
};
element.addEventListener("pointerup", end);
element.addEventListener("pointercancel", end);
element.addEventListener("click", (event) => {
  if (!event.target.closest(".clear")) return;
  props.value = "";
  restore();
});
watch("value", restore);
