package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSigningKey: it is made once, and never anew in place of one that was lost.
func TestSigningKey(t *testing.T) {
	dir := t.TempDir()
	made, err := signingKey(dir, "0123456789")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, publicFile)); err != nil {
		t.Fatal(err)
	}
	again, err := signingKey(dir, "0123456789")
	if err != nil || again.Text() != made.Text() || !exists(filepath.Join(dir, publicFile)) {
		t.Errorf("again: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := signingKey(dir, "0123456789"); err == nil || !strings.Contains(err.Error(), "put the key back") {
		t.Errorf("without the key: %v", err)
	}
	if exists(filepath.Join(dir, keyFile)) {
		t.Error("another key was made")
	}
}

// TestWarnOfKey: of a key that is a secret no more the log says so.
func TestWarnOfKey(t *testing.T) {
	dir := t.TempDir()
	if _, err := signingKey(dir, "0123456789"); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o440: false, 0o604: true, 0o644: true} {
		if err := os.Chmod(filepath.Join(dir, keyFile), mode); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		warnOfKey(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if got := strings.Contains(log.String(), "chmod o-rwx"); got != want {
			t.Errorf("mode %v: logged %q", mode, log.String())
		}
	}
}
