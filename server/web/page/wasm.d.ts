// The build gives a .wasm file a name under /assets/, and this is it.
declare module "*.wasm" {
  const url: string
  export default url
}
