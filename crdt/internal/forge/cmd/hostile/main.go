// Command hostile writes the corpus of hostile changes, messages and frames
// into the directory that it is given. It is run by go generate; nothing else
// may need it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"parley/crdt/internal/forge"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the directory to write to")
	}
	files, err := forge.Corpus()
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
