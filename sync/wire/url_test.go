package wire

import (
	"reflect"
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	id := testDocument.String()
	head := string(appendHead58(nil, testHeads[0]))
	other := string(appendHead58(nil, testHeads[1]))
	for text, want := range map[string]URL{
		"automerge:" + id:                            {Document: testDocument},
		"automerge:" + id + "#" + head:               {testDocument, testHeads[:1]},
		"automerge:" + id + "#" + head + "|" + other: {testDocument, testHeads},
	} {
		got, err := ParseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read as %v", text, got)
		} else if got.String() != text {
			t.Errorf("%s: written as %s", text, got)
		}
	}
}

func TestURLWithNoHeads(t *testing.T) {
	got, err := ParseURL("automerge:" + testDocument.String() + "#")
	if err != nil || !reflect.DeepEqual(got, URL{Document: testDocument}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestParseURLRefuses(t *testing.T) {
	id := testDocument.String()
	head := string(appendHead58(nil, testHeads[0]))
	for _, text := range []string{
		"", "automerge:", id, "automerge:#" + head, "Automerge:" + id, "https://" + id,
		"automerge:" + id[1:], "automerge:" + id + "/x", " automerge:" + id,
		"automerge:" + id + "#" + head[1:],          // checksum
		"automerge:" + id + "#" + id,                // 16 bytes
		"automerge:" + id + "#" + head + "|",        // an empty head
		"automerge:" + id + "#" + head + "#" + head, // two sections
		"automerge:" + id + "#" + strings.Repeat("1", 1<<20),
		"automerge:" + id + "#" + strings.Repeat(head+"|", maxURLHeads) + head,
		"automerge:" + id + "#ü", "automerge:" + id + "#0OIl",
	} {
		if u, err := ParseURL(text); err == nil {
			t.Errorf("%.80q read as %v", text, u)
		}
	}
}
