import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, HOST } from './places.ts';
import { startServer } from './server-process.ts';
import type { MeasuredServer } from './server-process.ts';

/**
 * The yardstick: nginx with one worker over a cache directory, tuned as for a file server, without an access log
 * (Snowcap logs no requests either while it is measured).
 */
export async function startNginx(directory: string): Promise<MeasuredServer> {
  const prefix = await mkdtemp(join(tmpdir(), 'snowcap-bench-nginx-'));
  await mkdir(join(prefix, 'tmp'));
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const config = `
${process.getuid?.() === 0 ? 'user root;' : ''}
worker_processes 1;
daemon off;
pid ${prefix}/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  default_type application/octet-stream;
${temporary.map((name) => `  ${name}_temp_path ${prefix}/tmp/${name};`).join('\n')}
  server {
    listen ${HOST}:${port};
    root ${directory};
  }
}
`;
  await writeFile(join(prefix, 'nginx.conf'), config);
  const server = await startServer('nginx', ['-p', prefix, '-c', join(prefix, 'nginx.conf')], {
    port,
    probe: '/nix-cache-info',
    cwd: prefix,
    env: { ...process.env },
  });
  return {
    ...server,
    async stop() {
      await server.stop();
      await rm(prefix, { recursive: true, force: true });
    },
  };
}
