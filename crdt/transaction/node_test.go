package transaction_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const interop = "../../testdata/interop"

// node runs a script of the interop folder and returns what it prints.
func node(t *testing.T, stdin string, args ...string) []byte {
	t.Helper()
	if _, err := os.Stat(filepath.Join(interop, "node_modules")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the JavaScript libraries are not installed: run npm ci in testdata/interop: %v", err)
		}
		t.Skip("compares with JavaScript's implementation, which is not installed: run npm ci in testdata/interop")
	}
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = interop
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}
