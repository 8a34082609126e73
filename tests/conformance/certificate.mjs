// Certificates for the checks, made by openssl, each its own authority.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "node:tls";
import { within } from "./server.mjs";

/** Files with a certificate for this machine, and the server's table for them. */
export class Certificate {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "fanwire-tls-"));
    const path = (name) => join(this.folder, name);
    [this.file, this.key, this.trusted] = [path("cert.pem"), path("key.pem"), path("trusted.pem")];
    this.config = `\n[tls]\ncert_file = "${this.file}"\nkey_file = "${this.key}"\n`;
    this.serial = 0;
    this.renew();
  }

  /** Another certificate, `CN=check SERIAL`, and key in the same files; `trusted` keeps the old ones. */
  renew() {
    const [file, key] = [`${this.file}.new`, `${this.key}.new`];
    this.serial += 1;
    execFileSync("openssl", [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
      "-keyout", key, "-out", file, "-days", "2", "-subj", `/CN=check ${this.serial}`,
      "-set_serial", String(this.serial), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
      // Some clients (rustls) take no authority for a server.
      "-addext", "basicConstraints=critical,CA:FALSE",
    ], { stdio: ["ignore", "ignore", "pipe"] });
    appendFileSync(this.trusted, readFileSync(file));
    renameSync(key, this.key);
    renameSync(file, this.file);
  }

  /** Waits until newcomers at `url` are shown the newest one. */
  async isShown(url) {
    const { hostname, port } = new URL(url);
    const name = async () => {
      const socket = connect({ host: hostname, port, ca: readFileSync(this.trusted) });
      await once(socket, "secureConnect");
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return subject.CN;
    };
    const change = async () => { while (await name() !== `check ${this.serial}`) await pause(20); };
    await within(change(), "new certificate");
  }

  /** Puts something else into the file. */
  spoil() {
    writeFileSync(this.file, "no certificate\n");
  }

  remove() {
    rmSync(this.folder, { recursive: true });
  }
}
