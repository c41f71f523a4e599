package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	b := &builder{wasm: "assets/engine-CD.wasm", names: map[string]string{
		"style.css": "assets/style-AB.css", "icon.svg": "assets/icon-EF.svg", "page.tsx": "assets/page-12.js",
	}}
	const from = "<html lang=\"en\"><head><!-- assets --></head>"
	for _, tc := range []struct {
		dev, wasm bool
		has, not  []string
	}{
		{false, false, []string{"/assets/style-AB.css", "/assets/icon-EF.svg", "/assets/page-12.js"}, []string{"data-dev", "wasm", "<!--"}},
		{true, true, []string{"<html data-dev lang", "/assets/engine-CD.wasm"}, []string{"<!--"}},
	} {
		got := b.fill(from, "page.tsx", tc.dev, tc.wasm)
		for _, want := range tc.has {
			if !strings.Contains(got, want) {
				t.Errorf("dev %v, wasm %v: no %s in %s", tc.dev, tc.wasm, want, got)
			}
		}
		for _, unwanted := range tc.not {
			if strings.Contains(got, unwanted) {
				t.Errorf("dev %v, wasm %v: %s in %s", tc.dev, tc.wasm, unwanted, got)
			}
		}
	}
}

// The same source gives the same bytes, so that nobody loads again what has not changed.
func TestCompressIsReproducible(t *testing.T) {
	content := []byte(strings.Repeat("agreed ", 1000))
	first, err := compress(content)
	if err != nil {
		t.Fatal(err)
	}
	second, err := compress(content)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("twice compressed, two results")
	}
	z, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(z); err != nil || !bytes.Equal(back, content) {
		t.Errorf("not what was compressed: %d bytes, %v", len(back), err)
	}
}
