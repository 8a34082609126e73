// A TCP relay whose connections can be cut, so that clients lose theirs: the twin of relay.py.

import { once } from "node:events";
import { createServer, connect } from "node:net";

/** A relay to `target`, a server, on a port of its own. */
export async function relay(target) {
  const live = new Set();
  const listener = createServer((near) => {
    const { port } = new URL(target.url);
    const far = connect(Number(port), "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      live.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => { live.delete(one); other.destroy(); });
    }
  }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    url: `http://127.0.0.1:${listener.address().port}`,
    cut() { for (const socket of live) socket.destroy(); },
    close() { this.cut(); listener.close(); },
    retarget(server) { target = server; },
  };
}
