// wrangler's bundler leaves such an import to workerd, which compiles the module at the upload of the Worker.
declare module '*.wasm' {
  const compiled: object;
  export default compiled;
}
