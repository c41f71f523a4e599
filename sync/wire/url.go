package wire

import (
	"fmt"
	"strings"

	"parley/crdt"
)

const (
	urlScheme   = "automerge:"
	maxURLHeads = 1024
)

// URL is automerge-repo's name for a document, or for the document as it was
// at some heads: "automerge:<document id>[#<head>|<head>…]", the id and the
// heads in base58check.
type URL struct {
	Document crdt.DocumentID
	Heads    []crdt.Hash // in the order in which they are written; none: the document as it is now
}

// ParseURL reads a URL. A bare document id is none.
func ParseURL(s string) (URL, error) {
	rest, found := strings.CutPrefix(s, urlScheme)
	if !found {
		return URL{}, fmt.Errorf("document URL: does not begin with %q", urlScheme)
	}
	id, heads, _ := strings.Cut(rest, "#")
	document, err := crdt.ParseDocumentID(id)
	if err != nil {
		return URL{}, fmt.Errorf("document URL: %w", err)
	}
	u := URL{Document: document}
	if heads == "" {
		return u, nil
	}
	if n := strings.Count(heads, "|") + 1; n > maxURLHeads {
		return URL{}, fmt.Errorf("document URL: %d heads, at most %d are read", n, maxURLHeads)
	}
	for text := range strings.SplitSeq(heads, "|") {
		h, err := parseHead58(text)
		if err != nil {
			return URL{}, fmt.Errorf("document URL: %w", err)
		}
		u.Heads = append(u.Heads, h)
	}
	return u, nil
}

// String returns what [ParseURL] reads.
func (u URL) String() string {
	b := append([]byte(urlScheme), u.Document.String()...)
	for i, h := range u.Heads {
		separator := byte('|')
		if i == 0 {
			separator = '#'
		}
		b = appendHead58(append(b, separator), h)
	}
	return string(b)
}
