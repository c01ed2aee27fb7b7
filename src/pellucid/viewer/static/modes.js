// Work modes: each is a module with mount(element, app) and, where it has something to put away, unmount(). A further one is a line here.
export const MODES = [
  { id: "explain", title: "Explain", load: () => import("./explain.js") },
  { id: "annotate", title: "Annotate", load: () => import("./annotate/annotate.js") },
  { id: "read", title: "Read", load: () => import("./read/read.js") },
];
