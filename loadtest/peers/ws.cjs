// The plain door on npm `ws`: a loop over the topic's sockets (README, "Server broadcast").
const { createServer } = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const topics = new Map();
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const server = createServer();
server.on("upgrade", (request, stream, head) => {
  const url = new URL(request.url, "http://localhost");
  const topic = url.pathname.replace("/topics/", "");
  sockets.handleUpgrade(request, stream, head, (socket) => {
    const members = topics.get(topic) ?? new Set();
    topics.set(topic, members);
    if (url.searchParams.get("echo") !== "false") {
      members.add(socket);
      socket.on("close", () => members.delete(socket));
    }
    socket.on("error", () => socket.terminate());
    socket.on("message", (data, binary) => {
      for (const member of members) {
        if (member.readyState === WebSocket.OPEN) member.send(data, { binary });
      }
    });
  });
});
server.listen(0, "127.0.0.1", 4096, () => {
  console.log(`listening http://127.0.0.1:${server.address().port}`);
});
