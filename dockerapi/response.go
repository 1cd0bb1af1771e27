package dockerapi

import (
	"bufio"
	"context"
	"io"
	"net"
)

// A handler decodes, validates, calls the engine, and returns how to answer, or an error. It writes nothing itself.
// ctx is the request's: it ends when the client goes away, once the request's body has been read to its end.
type handler func(ctx context.Context, r *request) (response, error)

// A response writes an answer. An error before its first byte becomes the answer; after that the connection is broken off.
// nil is an empty 200.
type response func(a *answer) error

// asJSON answers with v.
func asJSON(status int, v any) response {
	return func(a *answer) error { return writeJSON(a, status, v) }
}

// noBody answers with a status alone.
func noBody(status int) response {
	return func(a *answer) error { a.WriteHeader(status); return nil }
}

// asBytes answers with b.
func asBytes(contentType string, b []byte) response {
	return func(a *answer) error {
		a.Header().Set("Content-Type", contentType)
		_, err := a.Write(b)
		return err
	}
}

// asStream answers with what fill writes; headers go out with its first byte, so an error before it is answered as one.
func asStream(contentType string, fill func(w io.Writer) error) response {
	return func(a *answer) error {
		return fill(&lateWriter{a: a, contentType: contentType})
	}
}

// A lateWriter sets the content type before the first byte.
type lateWriter struct {
	a           *answer
	contentType string
}

func (l *lateWriter) Write(b []byte) (int, error) {
	if !l.a.begun() {
		l.a.Header().Set("Content-Type", l.contentType)
	}
	return l.a.Write(b)
}

// hijackedConn is a connection taken over from the HTTP server; what the server had read too far is read first.
type hijackedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *hijackedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// CloseWrite sends the end of the stream, and leaves reading open. On connections that can't, it does nothing.
func (c *hijackedConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}
