// A box that scrolls must be reachable by keyboard. The theme decides that once, before diagrams are drawn and
// folded parts are opened; decide it again whenever a box changes its size.
const reachable = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
    if (scrolls) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll("article :is(pre, .output, div.math, .pst-scrollable-table-container)")) {
  reachable.observe(box);
}
