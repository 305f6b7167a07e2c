// An SFTP server on node's ssh2, with asynchronous files: node server.js MODULES PORT HOST-KEY USER-KEY LOGIN-FOLDER USERNAME
//
// What such servers have in common, and this one shows each time, where others show it under load:
// - WRITEs are carried out by workers and answered late; FSTAT and FSETSTAT are answered at once; only CLOSE waits.
// - the flags of OPEN go through ssh2's flagsToString, which knows the combinations that fopen(3) has; with ANY_FLAGS=1 in
//   the environment they are taken one by one.
// - RENAME refuses a destination that exists, as version 3 says, and there are no extensions.

"use strict";

const fs = require("fs");
const path = require("path");
const [modules, port, hostKeyPath, userKeyPath, loginFolder, username] = process.argv.slice(2);
const { Server, utils } = require(path.join(modules, "node_modules", "ssh2"));
const { STATUS_CODE, flagsToString } = utils.sftp;

const WORKER_MILLISECONDS = 3;
const OPEN_FILES = 128;

const anyFlags = process.env.ANY_FLAGS === "1";

function toMode(flags) {
  if (!anyFlags) return flagsToString(flags);
  const { constants } = fs;
  const access = [constants.O_RDONLY, constants.O_RDONLY, constants.O_WRONLY, constants.O_RDWR][flags & 3];
  return access | (flags & 4 && constants.O_APPEND) | (flags & 8 && constants.O_CREAT) | (flags & 16 && constants.O_TRUNC)
    | (flags & 32 && constants.O_EXCL);
}

const known = utils.parseKey(fs.readFileSync(userKeyPath));

function isKnown(context) {
  if (context.method !== "publickey" || context.username !== username) return false;
  if (context.key.algo !== known.type || !context.key.data.equals(known.getPublicSSH())) return false;
  return !context.signature || known.verify(context.blob, context.signature, context.hashAlgo) === true;
}

function codeOf(error) {
  if (error.code === "ENOENT" || error.code === "ENOTDIR") return STATUS_CODE.NO_SUCH_FILE;
  if (error.code === "EACCES" || error.code === "EPERM") return STATUS_CODE.PERMISSION_DENIED;
  return STATUS_CODE.FAILURE;
}

function attributesOf(found) {
  return {
    mode: found.mode, uid: found.uid, gid: found.gid, size: found.size,
    atime: Math.floor(found.atimeMs / 1000), mtime: Math.floor(found.mtimeMs / 1000),
  };
}

function serve(sftp) {
  const opened = new Map();
  let next = 1;
  const real = (name) => path.resolve(loginFolder, name);
  const hold = (thing) => {
    const handle = Buffer.alloc(4);
    handle.writeUInt32BE(next, 0);
    opened.set(next++, thing);
    return handle;
  };
  const find = (handle) => (handle.length === 4 ? opened.get(handle.readUInt32BE(0)) : undefined);
  // Answers with what `work` gives, or with the code of what it throws.
  const answer = (id, work, reply) => {
    Promise.resolve().then(work).then(
      (result) => (reply ? reply(result) : sftp.status(id, STATUS_CODE.OK)),
      (error) => sftp.status(id, codeOf(error), error.message),
    );
  };
  const missing = () => Object.assign(new Error("bad handle"), { code: "EBADF" });
  const apply = (name, attributes) => {
    if (attributes.size !== undefined) fs.truncateSync(name, attributes.size);
    if (attributes.mode !== undefined) fs.chmodSync(name, attributes.mode & 0o7777);
    if (attributes.mtime !== undefined) fs.utimesSync(name, attributes.atime, attributes.mtime);
  };

  sftp.on("OPEN", (id, name, flags, attributes) => answer(id, async () => {
    const mode = toMode(flags);
    if (mode === null) throw new Error("unknown combination of flags");
    if (opened.size >= OPEN_FILES) throw new Error("too many open files");
    return hold({ file: await fs.promises.open(real(name), mode, attributes.mode ?? 0o666), name: real(name), work: [] });
  }, (handle) => sftp.handle(id, handle)));

  sftp.on("READ", (id, handle, offset, length) => answer(id, async () => {
    const one = find(handle);
    if (!one || !one.file) throw missing();
    const { bytesRead, buffer } = await one.file.read(Buffer.alloc(Math.min(length, 262144)), 0, Math.min(length, 262144), offset);
    return buffer.subarray(0, bytesRead);
  }, (data) => (data.length ? sftp.data(id, data) : sftp.status(id, STATUS_CODE.EOF))));

  sftp.on("WRITE", (id, handle, offset, data) => {
    const one = find(handle);
    if (!one || !one.file) return sftp.status(id, STATUS_CODE.FAILURE);
    const work = new Promise((resolve) => setTimeout(resolve, WORKER_MILLISECONDS)).then(() => one.file.write(data, 0, data.length, offset));
    one.work.push(work.catch(() => {}));
    answer(id, () => work);
  });

  sftp.on("CLOSE", (id, handle) => answer(id, async () => {
    const one = find(handle);
    if (!one) throw missing();
    opened.delete(handle.readUInt32BE(0));
    if (!one.file) return;
    await Promise.all(one.work);
    await one.file.close();
  }));

  sftp.on("FSTAT", (id, handle) => answer(id, () => {
    const one = find(handle);
    if (!one || !one.file) throw missing();
    return attributesOf(fs.fstatSync(one.file.fd));
  }, (found) => sftp.attrs(id, found)));

  sftp.on("FSETSTAT", (id, handle, attributes) => answer(id, () => {
    const one = find(handle);
    if (!one || !one.file) throw missing();
    apply(one.name, attributes);
  }));

  sftp.on("SETSTAT", (id, name, attributes) => answer(id, () => apply(real(name), attributes)));
  sftp.on("STAT", (id, name) => answer(id, () => fs.promises.stat(real(name)), (found) => sftp.attrs(id, attributesOf(found))));
  sftp.on("LSTAT", (id, name) => answer(id, () => fs.promises.lstat(real(name)), (found) => sftp.attrs(id, attributesOf(found))));
  sftp.on("REMOVE", (id, name) => answer(id, () => fs.promises.unlink(real(name))));
  sftp.on("RMDIR", (id, name) => answer(id, () => fs.promises.rmdir(real(name))));
  sftp.on("MKDIR", (id, name, attributes) => answer(id, () => fs.promises.mkdir(real(name), attributes.mode ?? 0o777)));
  sftp.on("RENAME", (id, from, to) => answer(id, async () => {
    const taken = await fs.promises.lstat(real(to)).then(() => true, () => false);
    if (taken) throw new Error("file exists");
    await fs.promises.rename(real(from), real(to));
  }));
  sftp.on("READLINK", (id, name) => answer(id, () => fs.promises.readlink(real(name)), (target) => sftp.name(id, [{ filename: target, longname: target, attrs: {} }])));
  sftp.on("SYMLINK", (id, target, name) => answer(id, () => fs.promises.symlink(target, real(name))));
  sftp.on("REALPATH", (id, name) => answer(id, () => real(name), (found) => sftp.name(id, [{ filename: found, longname: found, attrs: {} }])));

  sftp.on("OPENDIR", (id, name) => answer(id, async () => hold({ names: await fs.promises.readdir(real(name)), name: real(name) }), (handle) => sftp.handle(id, handle)));
  sftp.on("READDIR", (id, handle) => answer(id, async () => {
    const one = find(handle);
    if (!one || !one.names) throw missing();
    return Promise.all(one.names.splice(0, 100).map(async (filename) => {
      const found = await fs.promises.lstat(path.join(one.name, filename));
      return { filename, longname: filename, attrs: attributesOf(found) };
    }));
  }, (entries) => (entries.length ? sftp.name(id, entries) : sftp.status(id, STATUS_CODE.EOF))));
}

const server = new Server({ hostKeys: [fs.readFileSync(hostKeyPath)] }, (client) => {
  client.on("error", () => {});
  client.on("authentication", (context) => (isKnown(context) ? context.accept() : context.reject(["publickey"])));
  client.on("ready", () => {
    client.on("session", (accept) => accept().on("sftp", (acceptSftp) => serve(acceptSftp())));
  });
});
server.listen(Number(port), "127.0.0.1");
