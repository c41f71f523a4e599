package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"parley/server/store/pgtest"
)

// whyNotSaved is what a roster leads to, or else what the server says of itself.
var whyNotSaved = regexp.MustCompile(`the server cannot save now|nothing is acknowledged`)

// TestTheServerCannotSave takes the database away from under a server: every command
// says why nothing is saved, and those who follow hear when that is over.
func TestTheServerCannotSave(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	p := serve(t, t.TempDir(), "--store", pg.URL("postgres"))
	openDeal(t, p.url)
	says(t, p.url, exitOK, "saved on the server", "pick", "deal", "price", "100", "--user", "bob")
	lines := follow(t, p.url, "--user", "carol")
	asJSON := follow(t, p.url, "--user", "dave", "--json")
	lines.see("price: 100 by bob")
	asJSON.see(`"stalled":false`)

	pg.Kill(t)
	replica := t.TempDir()
	file := filepath.Join(t.TempDir(), "fields.json")
	check(t, os.WriteFile(file, []byte(`{"fields":{"date":{"options":{}}}}`), 0o600))
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitUnsaved, []string{"pick", "deal", "price", "110", "--user", "alice", "--replica", replica}},
		{exitFailure, []string{"pick", "deal", "price", "115", "--user", "bob"}},
		{exitUnsaved, []string{"withdraw", "deal", "price", "--user", "alice", "--replica", replica}},
		{exitFailure, []string{"ready", "deal", "--user", "alice", "--replica", replica}},
		{exitFailure, []string{"open", "deal", "--fields", file, "--user", "holly"}},
	} {
		said, code := parley(t, p.url, append(c.args, "--timeout", "1500ms")...)
		if code != c.code || !whyNotSaved.MatchString(said) {
			t.Errorf("%v: exit %d: %s", c.args, code, said)
		}
	}
	lines.see("the server cannot save now")
	asJSON.see(`"stalled":true`)

	check(t, pg.Restart())
	lines.see("the server saves again")
	asJSON.see(`"stalled":false`)
	says(t, p.url, exitOK, "saved on the server", "pick", "deal", "price", "120", "--user", "alice", "--replica", replica)
}
