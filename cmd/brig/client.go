package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A client asks one brigd.
type client struct {
	http http.Client
	host string
	dial func(context.Context) (net.Conn, error)
}

// dial returns a client for unix://PATH or tcp://ADDRESS:PORT; it connects with the first request.
func dial(host string) (*client, error) {
	network, addr, ok := strings.Cut(host, "://")
	if !ok || addr == "" || network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("host %q is neither unix://PATH nor tcp://ADDRESS:PORT", host)
	}
	connect := func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, addr) }
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) }}
	return &client{http.Client{Transport: t}, host, connect}, nil
}

// get opens the path's body; an answer that is no success is an error with the server's own message.
func (c *client) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://brig"+path, nil)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

// post sends body to the path and opens the answer's, as get does.
func (c *client) post(ctx context.Context, path, contentType string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://brig"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	return c.do(req)
}

func (c *client) do(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask brigd at %s: %w", c.host, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp.Body, nil
	}
	return nil, refusal(resp)
}

// A refused is what brigd answered with instead of success.
type refused struct {
	status  int
	message string
}

func (r *refused) Error() string { return r.message }

// refusal reads an answer that is no success, and closes it.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	var msg struct{ Message string }
	if json.NewDecoder(resp.Body).Decode(&msg) != nil || msg.Message == "" {
		msg.Message = resp.Status
	}
	return &refused{resp.StatusCode, msg.Message}
}

// status is that of brigd's refusal; 0: it is another error, or none.
func status(err error) int {
	var r *refused
	if errors.As(err, &r) {
		return r.status
	}
	return 0
}

// decode reads the path's JSON into v.
func (c *client) decode(ctx context.Context, path string, v any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return fmt.Errorf("read brigd's answer to %s: %w", path, err)
	}
	return nil
}

// ask posts nothing to the path and reads its JSON into v.
func (c *client) ask(ctx context.Context, path string, v any) error {
	return c.order(ctx, path, nil, v)
}

// order posts doc as JSON, nil for nothing, to the path, and reads its JSON into v, nil for none.
func (c *client) order(ctx context.Context, path string, doc, v any) error {
	in := io.Reader(http.NoBody)
	if doc != nil {
		b, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	body, err := c.post(ctx, path, "application/json", in)
	if err != nil {
		return err
	}
	defer body.Close()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return fmt.Errorf("read brigd's answer to %s: %w", path, err)
	}
	return nil
}

// remove deletes what is at the path.
func (c *client) remove(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://brig"+path, nil)
	if err != nil {
		return err
	}
	body, err := c.do(req)
	if err != nil {
		return err
	}
	return body.Close()
}

// escape keeps an image name's slashes: the server's routes know them.
func escape(name string) string { return (&url.URL{Path: name}).EscapedPath() }
