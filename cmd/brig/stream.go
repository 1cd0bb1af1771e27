package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"

	"github.com/moby/moby/api/pkg/stdcopy"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A stream is a connection to the standard streams of a container's process, taken over from HTTP.
type stream struct {
	conn net.Conn
	in   *bufio.Reader // what comes, which may have begun together with the answer's head
}

// hijack posts body, which may be nil, to a path whose answer is a stream.
func (c *client) hijack(ctx context.Context, path string, body any) (*stream, error) {
	b := []byte(nil)
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://brig"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask brigd at %s: %w", c.host, err)
	}
	in := bufio.NewReader(conn)
	err = req.Write(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(in, req)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask brigd at %s: %w", c.host, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, refusal(resp)
	}
	return &stream{conn, in}, nil
}

func (s *stream) Close() error { return s.conn.Close() }

// closeWrite says that no more input comes.
func (s *stream) closeWrite() {
	if h, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite() // the other end may have gone already
	}
}

// copyOut writes what comes until the end; without a terminal it is two streams in one.
func (s *stream) copyOut(tty bool, out, errOut io.Writer) error {
	var err error
	if tty {
		_, err = io.Copy(out, s.in)
	} else {
		_, err = stdcopy.StdCopy(out, errOut, s.in)
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// A console is the user's terminal, in raw mode while it is lent to a process.
type console struct {
	fd    int
	state *term.State
}

// lendConsole makes standard input's terminal raw. There must be one.
func lendConsole() (*console, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, errors.New("the input device is not a TTY")
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	return &console{fd, state}, nil
}

func (k *console) back() { _ = term.Restore(k.fd, k.state) }

// follow tells a process, whose resize endpoint is path, of the terminal's size before it returns, and then whenever it changes, until ctx ends.
func (k *console) follow(ctx context.Context, c *client, path string) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	tell := func() {
		if w, h, err := term.GetSize(k.fd); err == nil {
			q := url.Values{"h": {strconv.Itoa(h)}, "w": {strconv.Itoa(w)}}
			_ = c.order(ctx, path+"?"+q.Encode(), nil, nil) // the process may have ended
		}
	}
	tell()
	go func() {
		defer signal.Stop(changed)
		for {
			select {
			case <-changed:
				tell()
			case <-ctx.Done():
				return
			}
		}
	}()
}

// pump copies input to the stream, and half-closes it at its end.
func (s *stream) pump(in io.Reader) {
	_, _ = io.Copy(s.conn, in) // it ends with either end
	s.closeWrite()
}
