package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"parley/crdt/transaction"
)

// openCmd creates a transaction or updates its fields.
type openCmd struct {
	clientFlags
	txArg
	Fields string `help:"File of the fields as JSON, - for standard input." required:"" placeholder:"FILE"`
}

// Help is shown by kong under the command's one line.
func (*openCmd) Help() string {
	return `FILE holds the fields to agree on, with the options that were found for each:

  { "fields": { "price": { "label": "Price", "required": true,
      "options": { "a": { "value": 100, "source": "seller.pdf" },
                   "b": { "value": 120, "source": "buyer.pdf" } } } },
    "parties": ["alice", "bob"], "quorum": 0, "policy": "reopen" }

"parties", "quorum" (0: all) and "policy" (reopen or lock) may be left out. Only
a host may open a transaction; --role host is the default here. To open it again
with the same file changes nothing; with another, it updates the fields. What was
picked stays.`
}

func (c *openCmd) Run(io streams) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := c.needUser(); err != nil {
		return err
	}
	if c.Offline {
		return usagef("open talks to the server: leave --offline out")
	}
	if c.Role == "" {
		c.Role = transaction.Host
	}
	d, err := readDefinition(io.in, c.Fields)
	if err != nil {
		return err
	}
	d.ID = string(id)
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	s, created, err := c.api().put(ctx, d)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io.out, s)
	}
	verb := "is up to date"
	if created {
		verb = "created"
	}
	_, err = fmt.Fprintf(io.out, "%s %s: %s\n%s\n", id, verb, count(len(s.Fields), "field", "fields"), s.URL)
	return err
}

func readDefinition(in io.Reader, file string) (*definition, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(in)
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, usagef("--fields: %v", err)
	}
	d := &definition{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return nil, usagef("--fields %s: %s: see parley open --help for what is expected", file, jsonReason(b, err))
	}
	if dec.More() {
		return nil, usagef("--fields %s: more than one JSON value", file)
	}
	return d, nil
}

// jsonReason says what is wrong, and in which line if that is known.
func jsonReason(b []byte, err error) string {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	case errors.Is(err, io.EOF):
		return "it is empty"
	}
	if offset < 0 || offset > int64(len(b)) {
		return err.Error()
	}
	return fmt.Sprintf("line %d: %v", 1+bytes.Count(b[:offset], []byte("\n")), err)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
