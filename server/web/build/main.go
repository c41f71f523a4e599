// Build makes the page that the server hands out: it bundles server/web/page and
// what it imports into server/web/page/dist, under names that change with the
// content, compressed as they are sent. It is for make web, and runs without a
// network once the packages of server/web are installed.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// pages are the HTML files, and the script that each loads. Pages of a --dev
// server say so to their script.
var pages = []struct {
	out, from, script string
	dev, wasm         bool
}{
	{out: "transaction.html", from: "transaction.html", script: "transaction.tsx", wasm: true},
	{out: "transaction-dev.html", from: "transaction.html", script: "transaction.tsx", wasm: true, dev: true},
	{out: "start.html", from: "start.html", script: "start.ts", dev: true},
	{out: "about.html", from: "about.html", script: "about.ts"},
}

// entries are what is bundled, each into one file.
var entries = []string{"transaction.tsx", "start.ts", "about.ts", "style.css"}

func main() {
	dir := flag.String("dir", "server/web", "the folder that has page, client and node_modules")
	flag.Parse()
	if err := build(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "build the page:", err)
		os.Exit(1)
	}
}

func build(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		return fmt.Errorf("the packages are not installed: run npm ci in %s, or make web", dir)
	}
	b := &builder{dir: dir, page: filepath.Join(absolute(dir), "page"), files: make(map[string][]byte), names: make(map[string]string)}
	for _, step := range []func() error{b.bundle, b.icon, b.writePages, b.worker, b.write} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// builder collects what goes into dist.
type builder struct {
	dir, page string
	files     map[string][]byte // by their path in dist
	names     map[string]string // what was built of which source: page/x.ts to assets/x-HASH.js
	wasm      string            // the engine's path in dist
}

// bundle makes assets of the entries, and of what they load by address.
func (b *builder) bundle() error {
	var points []api.EntryPoint
	for _, e := range entries {
		points = append(points, api.EntryPoint{
			InputPath:  filepath.Join(b.page, e),
			OutputPath: strings.TrimSuffix(e, filepath.Ext(e)),
		})
	}
	opt := b.options()
	opt.EntryPointsAdvanced = points
	result := api.Build(opt)
	if len(result.Errors) > 0 {
		return fmt.Errorf("%d errors, the first: %s", len(result.Errors), result.Errors[0].Text)
	}
	return b.collect(result)
}

func (b *builder) options() api.BuildOptions {
	return api.BuildOptions{
		AbsWorkingDir: absolute(b.dir),
		Outdir:        "page/dist/assets",
		Bundle:        true, Write: false, Metafile: true, LogLevel: api.LogLevelWarning,
		MinifySyntax: true, MinifyWhitespace: true, MinifyIdentifiers: true,
		Format: api.FormatESModule, Platform: api.PlatformBrowser, Target: api.ES2022,
		LegalComments: api.LegalCommentsEndOfFile,
		EntryNames:    "[name]-[hash]", AssetNames: "[name]-[hash]", PublicPath: "/assets/",
		Loader: map[string]api.Loader{".wasm": api.LoaderFile},
		JSX:    api.JSXAutomatic, JSXImportSource: "preact",
		Define: map[string]string{"process.env.NODE_ENV": `"production"`},
	}
}

func absolute(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	return abs
}

func (b *builder) collect(result api.BuildResult) error {
	var meta struct {
		Outputs map[string]struct {
			EntryPoint string `json:"entryPoint"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(result.Metafile), &meta); err != nil {
		return fmt.Errorf("read what was bundled: %w", err)
	}
	for out, o := range meta.Outputs {
		if name := strings.TrimPrefix(out, "page/dist/"); o.EntryPoint != "" {
			b.names[filepath.Base(o.EntryPoint)] = name
		}
	}
	for _, f := range result.OutputFiles {
		name := "assets/" + filepath.Base(f.Path)
		b.files[name] = f.Contents
		if strings.HasSuffix(name, ".wasm") {
			b.wasm = name
		}
	}
	return nil
}

// icon is an asset that only the pages name.
func (b *builder) icon() error {
	content, err := os.ReadFile(filepath.Join(b.page, "icon.svg"))
	if err != nil {
		return err
	}
	b.names["icon.svg"] = "assets/icon-" + digest(content) + ".svg"
	b.files[b.names["icon.svg"]] = content
	return nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return strings.ToUpper(hex.EncodeToString(sum[:4]))
}

// writePages fills the names into the pages.
func (b *builder) writePages() error {
	for _, p := range pages {
		text, err := os.ReadFile(filepath.Join(b.page, p.from))
		if err != nil {
			return err
		}
		b.files[p.out] = []byte(b.fill(string(text), p.script, p.dev, p.wasm))
	}
	return nil
}

func (b *builder) fill(text, script string, dev, wasm bool) string {
	head := `<link rel="stylesheet" href="/` + b.names["style.css"] + `">` + "\n" +
		`<link rel="icon" type="image/svg+xml" href="/` + b.names["icon.svg"] + `">` + "\n" +
		`<script type="module" src="/` + b.names[script] + `"></script>`
	if wasm && b.wasm != "" { // the script asks for it a moment later
		head += "\n" + `<link rel="preload" as="fetch" type="application/wasm" crossorigin href="/` + b.wasm + `">`
	}
	if dev {
		text = strings.Replace(text, "<html ", "<html data-dev ", 1)
	}
	return strings.Replace(text, "<!-- assets -->", head, 1)
}

// worker makes the service worker, which knows every asset. Its name stays the
// same, since browsers look under it for a new one.
func (b *builder) worker() error {
	assets := []string{}
	all := sha256.New()
	for _, name := range sorted(b.files) {
		all.Write(b.files[name])
		if strings.HasPrefix(name, "assets/") {
			assets = append(assets, "/"+name)
		}
	}
	list, err := json.Marshal(assets)
	if err != nil {
		return err
	}
	opt := b.options()
	opt.Format = api.FormatIIFE // not every browser takes a module here
	opt.EntryPoints = []string{filepath.Join(b.page, "worker.ts")}
	opt.Define["ASSETS"] = string(list)
	opt.Define["VERSION"] = `"` + hex.EncodeToString(all.Sum(nil)[:8]) + `"`
	result := api.Build(opt)
	if len(result.Errors) > 0 {
		return fmt.Errorf("the service worker: %s", result.Errors[0].Text)
	}
	b.files["worker.js"] = result.OutputFiles[0].Contents
	return nil
}

func sorted(files map[string][]byte) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// write replaces what is in dist.
func (b *builder) write() error {
	dist := filepath.Join(b.page, "dist")
	if err := clear(dist); err != nil {
		return err
	}
	total := 0
	for _, name := range sorted(b.files) {
		packed, err := compress(b.files[name])
		if err != nil {
			return err
		}
		path := filepath.Join(dist, filepath.FromSlash(name)+".gz")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, packed, 0o644); err != nil {
			return err
		}
		total += len(packed)
	}
	fmt.Printf("the page is built: %d files, %d kB compressed\n", len(b.files), total/1000)
	return nil
}

// clear removes what an earlier build made.
func clear(dist string) error {
	entries, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == ".gitkeep" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dist, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// compress names no time, so that the same source gives the same bytes.
func compress(content []byte) ([]byte, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
