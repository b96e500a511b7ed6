// What the theme lacks for people who use a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  const label = (selector, text) =>
    document.querySelectorAll(selector).forEach((part) => part.setAttribute("aria-label", text));
  label("aside.sidebar-drawer", "All pages");
  label("aside.toc-drawer", "On this page");

  // Code and tables that scroll sideways have to take the focus, so that arrow keys scroll them.
  const reach = () =>
    document.querySelectorAll(".highlight pre, .table-wrapper, .cell_output").forEach((part) => {
      if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    });
  reach();
  window.addEventListener("resize", reach);
});
