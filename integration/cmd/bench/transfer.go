package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// What is carried by the transfers: so much, in pieces like that.
const (
	carried = 1 << 30
	piece   = 128 << 10
)

// serve is the program in the transfers' container. A connection begins with the number of bytes that it wants sent, 64 bits with the highest
// byte first; with 0 the server counts what comes until the end, and answers with the number.
func serve(addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		serveOne(c)
		c.Close()
	}
}

// serveOne's errors are the client's to see.
func serveOne(c net.Conn) {
	var n int64
	if binary.Read(c, binary.BigEndian, &n) != nil {
		return
	}
	if n > 0 {
		send(c, n)
		return
	}
	got, err := swallow(c)
	if err == nil {
		binary.Write(c, binary.BigEndian, got)
	}
}

func send(c io.Writer, n int64) error {
	b := make([]byte, piece)
	for n > 0 {
		k, err := c.Write(b[:min(n, piece)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// swallow reads to the end through one buffer: nothing may be spliced past the socket.
func swallow(c io.Reader) (n int64, err error) {
	b := make([]byte, piece)
	for {
		k, err := c.Read(b)
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

type dial func(ctx context.Context, network, addr string) (net.Conn, error)

// fetch has the server at addr send.
func fetch(ctx context.Context, d dial, addr string) error {
	c, err := d(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := binary.Write(c, binary.BigEndian, int64(carried)); err != nil {
		return err
	}
	if n, err := swallow(c); err != nil || n != carried {
		return fmt.Errorf("%d bytes came from %s: %w", n, addr, err)
	}
	return nil
}

// deliver sends to the server at addr.
func deliver(ctx context.Context, d dial, addr string) error {
	c, err := d(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := binary.Write(c, binary.BigEndian, int64(0)); err != nil {
		return err
	}
	if err := send(c, carried); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var n int64
	if err := binary.Read(c, binary.BigEndian, &n); err != nil || n != carried {
		return fmt.Errorf("%d bytes came to %s: %w", n, addr, err)
	}
	return nil
}

// transferTasks carry bytes through a published port of a container, from another host and from this one. The servers share one network namespace,
// so each one's packets pass the other's rules too.
func transferTasks(at place) []task {
	ref := at.ref("bench")
	run := docker("run", "-d", "--name", container, "-p", "9000", ref, "/program", "serve", ":9000")
	serving := func(ctx context.Context, s *server) error {
		if err := run(ctx, s); err != nil {
			return err
		}
		return listening(ctx, s)
	}
	here := "127.0.0.1"
	if at.near != nil {
		here = at.near.Here.String()
	}
	var out []task
	for _, way := range []struct {
		says, host string
		dial       dial
	}{{"by another host", here, func(ctx context.Context, network, addr string) (net.Conn, error) {
		return at.near.Dial(ctx, network, addr)
	}},
		{"by this host's address", here, new(net.Dialer).DialContext}, {"by 127.0.0.1", "127.0.0.1", new(net.Dialer).DialContext}} {
		for _, carry := range []struct {
			says string
			do   func(context.Context, dial, string) error
		}{{"from", fetch}, {"to", deliver}} {
			do := func(ctx context.Context, s *server) error {
				return carry.do(ctx, way.dial, net.JoinHostPort(way.host, s.port))
			}
			out = append(out, task{name: "1 GiB " + carry.says + " a published port, " + way.says, image: "bench", size: middle, setup: docker("pull", "-q", ref),
				fill: serving, do: do,
				end: docker("rm", "-f", container), bytes: carried, only: []string{"brigd", "dockerd"}})
		}
	}
	return out
}

// listening notes the published port, and waits until the program behind it answers.
func listening(ctx context.Context, s *server) error {
	r := s.cli.Run(ctx, nil, "port", container, "9000/tcp")
	first, _, _ := strings.Cut(r.Out, "\n")
	_, port, err := net.SplitHostPort(strings.TrimSpace(first))
	if err != nil {
		return errors.New(r.String())
	}
	s.port = port
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			n := int64(1)
			err = binary.Write(c, binary.BigEndian, n)
			if err == nil {
				n, err = swallow(c)
			}
			c.Close()
			if err == nil && n == 1 {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer at port %s: %w", port, err)
		}
	}
}
