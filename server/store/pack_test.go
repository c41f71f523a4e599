package store

import (
	"reflect"
	"testing"

	"parley/crdt"
)

// FuzzDecodePack: what is read is what would be written, and nothing else is read.
func FuzzDecodePack(f *testing.F) {
	p := &Pack{Index: []byte("index"), Hashes: []crdt.Hash{{1}, {2}, {3}}, Chunks: [][]byte{[]byte("one"), {}, []byte("three")}, Users: []string{"a", "", "a"}}
	f.Add(p.encode())
	f.Add([]byte{packVersion, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePack(b)
		if err != nil {
			return
		}
		again, err := decodePack(p.encode())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%+v is written and read as %+v, %v", p, again, err)
		}
	})
}
