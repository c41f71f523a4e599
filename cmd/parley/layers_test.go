package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers says which of our packages each package may import. Changing it is
// changing the architecture.
var layers = map[string][]string{
	"crdt/internal/columnar": nil,
	"crdt/internal/engine":   nil,
	"crdt":                   {"crdt/internal/columnar", "crdt/internal/engine"},
	"crdt/transaction":       {"crdt"},
	"sync/wire":              {"crdt"},
	"sync/protocol":          {"crdt"},
	"sync/presence":          {"crdt", "crdt/transaction", "sync/wire"},
	"sync/client":            {"crdt", "crdt/transaction", "sync/presence", "sync/protocol", "sync/wire"},
	"sync/session":           {"crdt", "crdt/transaction", "sync/presence", "sync/protocol", "sync/wire"},
	"server/store":           {"crdt"},
	"server/store/postgres":  {"crdt", "server/store"},
	"server/compact":         {"crdt"},
	"server/identity":        {"crdt", "crdt/transaction"},
	"server/audit":           {"crdt", "crdt/transaction", "sync/presence"},
	"server/inspect":         {"crdt", "crdt/transaction", "server/audit", "server/store", "sync/presence"},
	"server":                 {"crdt", "crdt/transaction", "sync/presence", "sync/session", "sync/wire", "server/audit", "server/compact", "server/identity", "server/store"},
	"server/web":             nil,
	"server/web/build":       nil,
	"cmd/parley":             {"cmd/parley/internal/load", "crdt", "crdt/transaction", "server", "server/audit", "server/compact", "server/identity", "server/inspect", "server/store", "server/store/postgres", "server/web", "sync/client", "sync/presence", "sync/session", "sync/wire"},

	"cmd/parley/internal/load": {"crdt", "crdt/transaction", "sync/presence", "sync/protocol", "sync/wire"},

	// For tests only: nothing that ships imports these.
	"crdt/internal/forge":             {"crdt/internal/columnar"},
	"crdt/internal/forge/cmd/hostile": {"crdt/internal/forge"},
	"crdt/historytest":                {"crdt/internal/engine"},
	"server/servertest":               {"crdt", "crdt/transaction", "sync/presence", "sync/protocol", "sync/wire"},
	"server/store/pgtest":             nil,
	"server/store/storetest":          {"crdt", "server/store"},
	"sync/session/sim":                nil,
}

// pure packages do no IO, read no clock, start no goroutine, take no lock.
var pure = []string{"crdt/internal/columnar", "crdt", "crdt/transaction", "sync/protocol", "sync/wire", "sync/presence", "sync/session", "server/audit"}

var impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "sync", "sync/atomic", "syscall",
	"github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/promhttp"}

var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

type listedPackage struct {
	ImportPath, Dir  string
	Imports, GoFiles []string
}

func TestLayers(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, "parley/")
		allowed, ok := layers[name]
		if !ok {
			t.Errorf("package %s is not in the table of layers", name)
		}
		for _, imp := range p.Imports {
			if dep, ours := strings.CutPrefix(imp, "parley/"); ours && !slices.Contains(allowed, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
			if slices.Contains(pure, name) && slices.Contains(impure, imp) {
				t.Errorf("%s is pure and must not import %s", name, imp)
			}
		}
		if slices.Contains(pure, name) {
			for _, f := range p.GoFiles {
				checkPure(t, filepath.Join(p.Dir, f))
			}
		}
	}
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "parley/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func checkPure(t *testing.T, path string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt:
			t.Errorf("%s: no goroutines or channels in a pure package", fset.Position(n.Pos()))
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				t.Errorf("%s: time is an input, not time.%s", fset.Position(n.Pos()), n.Sel.Name)
			}
		}
		return true
	})
}
