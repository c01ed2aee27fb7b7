// Work modes: each is a module with mount(element, app) and, where it has something to put away, unmount(). A further one is a line here.
export const MODES = [
  { id: "explain", title: "Explain", load: () => import("/static/viewer/explain.js") },
  { id: "annotate", title: "Annotate", load: () => import("/static/viewer/annotate/annotate.js") },
  { id: "read", title: "Read", load: () => import("/static/viewer/read/read.js") },
];
