// Wide tables scroll; the theme wraps them, and without a focusable wrapper only a pointer can scroll them.
document$.subscribe(() =>
  document.querySelectorAll(".md-typeset__scrollwrap, .formula, .highlight code").forEach((element) => {
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
  }),
);
