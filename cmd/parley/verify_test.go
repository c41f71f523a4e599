package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// records is where golden records and their key are.
const records = "../../server/audit/testdata"

// TestVerify runs the command on a golden record, whole and damaged.
func TestVerify(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(records, "sale.zip"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damaged := bytes.Replace(whole, []byte("Purchase price"), []byte("Purchase prize"), 1)
	record, key := file("sale.zip", whole), filepath.Join(records, "parley.pub")
	checkpoint := file("checkpoint", []byte(firstCheckpoint(t, whole)))
	huge := file("huge.zip", nil)
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		args        []string
		in          string
		code        int
		out, errout string
	}{
		{"whole", []string{record, "--key", key}, "", 0, "sale-14-harbour-road: the record holds\nagreed by alice and bob, 2027-01-15 08:12:11 UTC", ""},
		{"from standard input", []string{"-", "--key", key}, string(whole), 0, "Proved, by the key parley-test+", ""},
		{"as JSON", []string{record, "--key", key, "--json"}, "", 0, `{"holds":true,"transaction":"sale-14-harbour-road"`, ""},
		{"with a checkpoint", []string{record, "--key", key, "--checkpoint", checkpoint}, "", 0, "Agreement 1 is in the record as it was sealed", ""},
		{"with no checkpoint in the file", []string{record, "--key", key, "--checkpoint", key}, "", 1, "", "held against " + key},
		{"damaged", []string{file("bad.zip", damaged), "--key", key}, "", 1, "", "bad.zip does not hold: at byte 0 of the record: document.automerge is damaged, or was altered"},
		{"damaged, as JSON", []string{file("bad.zip", damaged), "--key", key, "--json"}, "", 1, `{"holds":false,"error":"`, "does not hold"},
		{"cut", []string{file("cut.zip", whole[:len(whole)-1]), "--key", key}, "", 1, "", "does not hold"},
		{"nothing", []string{"-", "--key", key}, "", 1, "", "does not hold: it is empty"},
		{"more than a record", []string{file("more.zip", append(bytes.Clone(whole), 'x')), "--key", key}, "", 1, "", "unpacked and packed again"},
		{"far too long", []string{huge, "--key", key}, "", 2, "", "records have less than 4 GiB"},
		{"the private key", []string{record, "--key", file("parley.key", []byte("PRIVATE+KEY+a+00000000+AA=="))}, "", 2, "", "this is the server's private one"},
		{"no such file", []string{"nowhere.zip", "--key", key}, "", 2, "", "read the record: open nowhere.zip"},
		{"no such key", []string{record, "--key", "nowhere.pub"}, "", 2, "", "read the public key: open nowhere.pub"},
		{"no such checkpoint", []string{record, "--key", key, "--checkpoint", "nowhere"}, "", 2, "", "read the checkpoint: open nowhere"},
		{"no key in the file", []string{record, "--key", record}, "", 2, "", "read a public key"},
		{"no key", []string{record}, "", 2, "", "--key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errout bytes.Buffer
			code := run(append([]string{"verify"}, c.args...), streams{in: strings.NewReader(c.in), out: &out, err: &errout})
			if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errout.String(), c.errout) {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, &out, &errout)
			}
			if strings.HasSuffix(c.name, "JSON") && !json.Valid(out.Bytes()) {
				t.Errorf("no JSON: %s", &out)
			}
		})
	}
}

// firstCheckpoint is the one that the parties were handed with the first
// agreement, cut out of record.json.
func firstCheckpoint(t *testing.T, record []byte) string {
	t.Helper()
	_, rest, _ := bytes.Cut(record, []byte(`"checkpoint": `))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	var text string
	if err := json.Unmarshal(line, &text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b}
	p.step(1, 4)
	p.step(2, 4) // too soon
	p.next = time.Time{}
	p.step(4, 4)
	p.end()
	want := "\r███████░░░░░░░░░░░░░░░░░░░░░░░ 1 of 4 changes\r██████████████████████████████ 4 of 4 changes\r\x1b[K"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	quiet := progressOn(&b)
	b.Reset()
	quiet.next = time.Time{}
	quiet.step(1, 2)
	quiet.end()
	if b.Len() > 0 {
		t.Errorf("where there is no terminal: %q", b.String())
	}
}
