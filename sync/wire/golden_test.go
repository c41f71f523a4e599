package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	goldenFrames = "../../testdata/wire/frames.json"
	interop      = "../../testdata/interop"
)

// goldenFrame is a frame that automerge-repo made, with what it reads itself.
type goldenFrame struct {
	Name  string         `json:"name"`
	Hex   string         `json:"hex"`
	Reads map[string]any `json:"reads"`
}

func readGolden(tb testing.TB) []goldenFrame {
	tb.Helper()
	b, err := os.ReadFile(goldenFrames)
	if err != nil {
		tb.Fatal(err)
	}
	var frames []goldenFrame
	if err := json.Unmarshal(b, &frames); err != nil {
		tb.Fatal(err)
	}
	return frames
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// describe is testdata/interop/describe.mjs for messages of ours.
func describe(m Message) map[string]any {
	d := map[string]any{"type": string(m.Type())}
	put := func(name string, value any) {
		if !reflect.ValueOf(value).IsZero() {
			d[name] = value
		}
	}
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i).Interface().(type) {
		case PeerID:
			put(map[string]string{"SenderID": "senderId", "TargetID": "targetId"}[v.Type().Field(i).Name], string(f))
		case Metadata:
			metadata := map[string]any{"isEphemeral": f.IsEphemeral}
			if f.StorageID != "" {
				metadata["storageId"] = string(f.StorageID)
			}
			d["peerMetadata"] = metadata
		case []byte:
			d["data"] = map[string]any{"hex": hex.EncodeToString(f)}
		case uint64:
			d["count"] = float64(f)
		case SessionID:
			put("sessionId", string(f))
		case []RemoteHeads:
			d["newHeads"] = describeHeads(f)
		case []StorageID:
			if len(f) > 0 {
				d[strings.ToLower(v.Type().Field(i).Name)] = texts(f)
			}
		}
	}
	switch m := m.(type) {
	case *Join:
		d["supportedProtocolVersions"] = texts(m.Versions)
	case *Peer:
		d["selectedProtocolVersion"] = m.Version
	case *ProtocolError:
		put("message", m.Message)
	}
	if id := v.FieldByName("DocumentID"); id.IsValid() {
		d["documentId"] = id.MethodByName("String").Call(nil)[0].String()
	}
	return d
}

func describeHeads(all []RemoteHeads) map[string]any {
	d := map[string]any{}
	for _, h := range all {
		heads := []any{}
		for _, head := range h.Heads {
			heads = append(heads, string(appendHead58(nil, head)))
		}
		d[string(h.StorageID)] = map[string]any{"heads": heads, "timestamp": h.Timestamp}
	}
	return d
}

func texts[T ~string](list []T) []any {
	var out []any
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// meant is what a frame means by the rules of this package, given what cbor-x
// reads in it: defaults filled in, null left out, unknown fields too.
func meant(t *testing.T, frame goldenFrame) map[string]any {
	d := map[string]any{}
	for name, value := range frame.Reads {
		if fieldNamed([]byte(name)) != fieldUnknown && value != nil {
			d[name] = value
		}
	}
	if d["type"] == "join" || d["type"] == "peer" {
		metadata, _ := d["peerMetadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{"isEphemeral": false}
		}
		d["peerMetadata"] = metadata
	}
	if d["type"] == "join" && d["supportedProtocolVersions"] == nil {
		d["supportedProtocolVersions"] = []any{ProtocolVersion}
	}
	if raw, ok := d["documentId"].(map[string]any); ok {
		d["documentId"] = idText(t, raw["hex"].(string))
	}
	if d["type"] == "subduction-connection" {
		return map[string]any{"type": d["type"], "senderId": d["senderId"]}
	}
	return d
}

// idText returns the text of a document id given in hexadecimal.
func idText(tb testing.TB, id string) string {
	var u URL
	copy(u.Document[:], unhex(tb, id))
	return u.Document.String()
}

func TestDecodeGolden(t *testing.T) {
	seen := map[Type]bool{}
	for _, frame := range readGolden(t) {
		t.Run(frame.Name, func(t *testing.T) {
			m, err := Decode(unhex(t, frame.Hex), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			seen[m.Type()] = true
			if got, want := describe(m), meant(t, frame); !reflect.DeepEqual(got, want) {
				t.Errorf("decoded\n%v\nwant\n%v", got, want)
			}
		})
	}
	for _, m := range samples() {
		if !seen[m.Type()] {
			t.Errorf("no golden frame of type %s", m.Type())
		}
	}
}

// node runs a script of the interop suite.
func node(t *testing.T, script string, stdin []byte) []byte {
	t.Helper()
	if _, err := os.Stat(filepath.Join(interop, "node_modules")); err != nil {
		missing(t, "the JavaScript packages are not installed: run npm ci in testdata/interop")
	}
	program, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	cmd := exec.CommandContext(t.Context(), program, script)
	cmd.Dir = interop
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", script, err, stderr.Bytes())
	}
	return out
}

// missing skips the test on a developer's machine and fails it in CI.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestGoldenIsWhatThePackagesMake(t *testing.T) {
	made := node(t, "make-frames.mjs", nil)
	want, err := os.ReadFile(goldenFrames)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, want) {
		t.Errorf("make-frames.mjs writes other frames than %s holds: write it again and look at the difference", goldenFrames)
	}
}

// TestClientsReadOurFrames sends every type through the decoder that
// automerge-repo's clients use.
func TestClientsReadOurFrames(t *testing.T) {
	var stdin bytes.Buffer
	for _, m := range samples() {
		stdin.WriteString(hex.EncodeToString(Append(nil, m)) + "\n")
	}
	lines := bytes.Split(bytes.TrimSpace(node(t, "read-frames.mjs", stdin.Bytes())), []byte("\n"))
	if len(lines) != len(samples()) {
		t.Fatalf("%d lines for %d frames", len(lines), len(samples()))
	}
	for i, m := range samples() {
		var got map[string]any
		if err := json.Unmarshal(lines[i], &got); err != nil {
			t.Fatal(err)
		}
		if want := describe(m); !reflect.DeepEqual(got, want) {
			t.Errorf("cbor-x reads\n%v\nwant\n%v", got, want)
		}
	}
}
