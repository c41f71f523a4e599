package server

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// A WebSocket keeps the two buffers of the HTTP connection that it was. net/http
// makes them of 4 KiB each; most frames are shorter than connBuffer, and what is
// longer passes by it.
const connBuffer = 1 << 10

// smallBuffers hands out connections with small buffers.
type smallBuffers struct{ http.ResponseWriter }

// Hijack implements [http.Hijacker].
func (s smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, large, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, err := large.Reader.Peek(large.Reader.Buffered()) // what came right behind the request
	if err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), conn), max(connBuffer, len(ahead)))
	if _, err := reader.Peek(len(ahead)); err != nil {
		return nil, nil, err
	}
	return conn, bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, connBuffer)), nil
}

// Unwrap makes the rest of the writer known to [http.ResponseController].
func (s smallBuffers) Unwrap() http.ResponseWriter { return s.ResponseWriter }
