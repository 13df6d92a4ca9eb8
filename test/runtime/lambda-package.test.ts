import { copyFile, mkdir, mkdtemp, readFile, rm, stat, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { parseEvent } from '../../src/runtime/lambda/function-event.ts';
import { download } from '../support/download.ts';
import { lambdaBundle } from '../support/lambda-bundle.ts';
import { LambdaService } from '../support/lambda-runtime.ts';
import { checkedCommand } from '../support/nix-command.ts';
import { unzip } from '../support/zip.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const STAGE = 'prod';
const PARAMETERS = ['--stage', STAGE, '--param', 'bucket=cache-bucket', '--param', 'prefix=nix/'];

/** Of a CloudFormation template, what is looked at. */
interface Template {
  readonly Resources: Readonly<
    Record<string, { readonly Type: string; readonly Properties: Readonly<Record<string, unknown>> }>
  >;
}

interface Statement {
  readonly Effect: string;
  readonly Action: readonly string[];
  readonly Resource: unknown;
  readonly Condition?: unknown;
}

/** What osls makes of serverless.yml, without an account: SSM is played here, and nothing else is asked. */
describe('the deployment to Lambda', () => {
  let directory: string;
  let ssm: Server;
  const asked: string[] = [];
  let template: Template;
  let files: readonly string[];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'snowcap-package-'));
    ssm = createServer((incoming, outgoing) => {
      let text = '';
      incoming.on('data', (piece: Buffer) => (text += piece.toString()));
      incoming.on('end', () => {
        const request: unknown = JSON.parse(text);
        const name =
          typeof request === 'object' && request !== null ? String(Reflect.get(request, 'Name')) : '';
        asked.push(name);
        const Parameter = { Name: name, Type: 'SecureString', Value: `value of ${name}` };
        outgoing.setHeader('Content-Type', 'application/x-amz-json-1.1').end(JSON.stringify({ Parameter }));
      });
    });
    await new Promise<void>((resolve) => ssm.listen(0, '127.0.0.1', resolve));
    await copyFile(join(REPOSITORY, 'serverless.yml'), join(directory, 'serverless.yml'));
    await mkdir(join(directory, 'dist'));
    await symlink(await lambdaBundle(), join(directory, 'dist/lambda'));
    await osls('package', '--package', join(directory, 'out'));
    template = JSON.parse(
      await readFile(join(directory, 'out/cloudformation-template-update-stack.json'), 'utf8'),
    ) as Template;
    files = await unzip(join(directory, 'out/snowcap.zip'), join(directory, 'task'));
  });

  afterAll(async () => {
    await new Promise((resolve) => ssm.close(resolve));
    await rm(directory, { recursive: true, force: true });
  });

  function osls(...words: readonly string[]): Promise<string> {
    return checkedCommand(join(REPOSITORY, 'node_modules/.bin/osls'), [...words, ...PARAMETERS], {
      cwd: directory,
      // The whole environment: no account of the machine gets in, and nothing is told to anybody.
      env: {
        PATH: `${join(REPOSITORY, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`,
        HOME: directory,
        CI: 'true',
        SLS_TELEMETRY_DISABLED: '1',
        SLS_NOTIFICATIONS_MODE: 'off',
        AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
        AWS_SECRET_ACCESS_KEY: 'none',
        AWS_ENDPOINT_URL: 'http://127.0.0.1:1',
        AWS_ENDPOINT_URL_SSM: `http://127.0.0.1:${(ssm.address() as AddressInfo).port}`,
      },
    });
  }

  function only(type: string): Readonly<Record<string, unknown>> {
    const found = Object.values(template.Resources).filter((resource) => resource.Type === type);
    expect(found.length, type).toBe(1);
    return found[0]?.Properties ?? {};
  }

  it('takes every secret from SSM, and has none of them in the file', async () => {
    expect(new Set(asked)).toEqual(
      new Set(
        ['database-url', 'secret-key', 'upstash-token', 'upstash-url'].map(
          (name) => `/snowcap/${STAGE}/${name}`,
        ),
      ),
    );
    const { Environment } = only('AWS::Lambda::Function');
    expect(Environment).toMatchObject({
      Variables: {
        SNOWCAP_STORAGE: 's3://cache-bucket/nix/',
        SNOWCAP_SECRET_KEY: `value of /snowcap/${STAGE}/secret-key`,
      },
    });
  });

  it('is a function of Node 24 on arm64, behind a URL that streams', () => {
    expect(only('AWS::Lambda::Function')).toMatchObject({
      Runtime: 'nodejs24.x',
      Architectures: ['arm64'],
      Handler: 'dist/lambda/index.handler',
      FunctionName: `snowcap-${STAGE}-cache`,
    });
    expect(only('AWS::Lambda::Url')).toMatchObject({ InvokeMode: 'RESPONSE_STREAM', AuthType: 'NONE' });
  });

  it('may do with the bucket and with itself what it needs, and nothing else but write its log', () => {
    const { Policies, ManagedPolicyArns } = only('AWS::IAM::Role');
    expect(ManagedPolicyArns).toBeUndefined();
    const [policy] = Policies as readonly {
      readonly PolicyDocument: { readonly Statement: readonly Statement[] };
    }[];
    const statements = policy?.PolicyDocument.Statement ?? [];
    const logs = statements.filter(({ Action }) => Action.every((action) => action.startsWith('logs:')));
    expect(logs.length).toBe(2);
    expect(JSON.stringify(logs)).toContain(`log-group:/aws/lambda/snowcap-${STAGE}*`);
    expect(statements.filter((statement) => !logs.includes(statement))).toEqual([
      {
        Effect: 'Allow',
        Action: [
          's3:GetObject',
          's3:PutObject',
          's3:DeleteObject',
          's3:AbortMultipartUpload',
          's3:ListMultipartUploadParts',
        ],
        Resource: { 'Fn::Sub': 'arn:${AWS::Partition}:s3:::cache-bucket/nix/*' },
      },
      {
        Effect: 'Allow',
        Action: ['s3:ListBucket'],
        Resource: { 'Fn::Sub': 'arn:${AWS::Partition}:s3:::cache-bucket' },
        Condition: { StringLike: { 's3:prefix': ['nix/*'] } },
      },
      {
        Effect: 'Allow',
        Action: ['s3:ListBucketMultipartUploads'],
        Resource: { 'Fn::Sub': 'arn:${AWS::Partition}:s3:::cache-bucket' },
      },
      {
        Effect: 'Allow',
        Action: ['lambda:InvokeFunction'],
        Resource: {
          'Fn::Sub': `arn:\${AWS::Partition}:lambda:\${AWS::Region}:\${AWS::AccountId}:function:snowcap-${STAGE}-cache`,
        },
      },
    ]);
  });

  it('is told every hour to look whether something is to be evicted', () => {
    const { ScheduleExpression, State, Targets } = only('AWS::Events::Rule');
    expect([ScheduleExpression, State]).toEqual(['rate(1 hour)', 'ENABLED']);
    const [target, ...others] = Targets as readonly { readonly Input: string }[];
    expect(others).toEqual([]);
    expect(parseEvent(JSON.parse(target?.Input ?? ''))).toEqual({ kind: 'job', job: { kind: 'evict' } });
  });

  it('contains the bundle alone, small, and without source maps', async () => {
    expect(files).toContain('dist/lambda/index.mjs');
    expect(files.filter((file) => !file.startsWith('dist/lambda/') || file.endsWith('.map'))).toEqual([]);
    expect((await stat(join(directory, 'out/snowcap.zip'))).size).toBeLessThan(2_000_000);
  });

  it('answers from its artefact, by the handler that it names', async () => {
    const lambda = await LambdaService.start({
      setUp: 'function URL, RESPONSE_STREAM',
      taskRoot: join(directory, 'task'),
      handler: String(only('AWS::Lambda::Function')['Handler']),
      env: {
        SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
        SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
        SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
        SNOWCAP_SECRET_KEY: formatSecretKey(await generateSecretKey('snowcap.test-1')),
      },
    });
    try {
      const answer = await download(`${lambda.url}/nix-cache-info`);
      expect(answer, lambda.output).toMatchObject({ status: 200, ended: 'clean' });
    } finally {
      await lambda.settled();
      await lambda.stop();
    }
  });

  it('prints as it was understood', async () => {
    const printed = await osls('print', '--format', 'json');
    expect(JSON.parse(printed)).toMatchObject({ functions: { cache: { reservedConcurrency: 50 } } });
  });
});
