package dockerapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A body that never ends is answered or cut off once its time is over, whether a handler wants it or not.
func TestBodyThatNeverEnds(t *testing.T) {
	d := newDaemon(t)
	d.stop()
	d.server.patience = 20 * time.Millisecond
	d.listen(t)
	for _, c := range []struct {
		name, request, want string
	}{
		{"wanted", "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 400 "},
		{"chunked", "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "HTTP/1.1 400 "},
		{"not wanted", "GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 200 "},
	} {
		conn, err := net.Dial("unix", d.socket)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c.request)
		all, err := io.ReadAll(conn) // ends when the server closes
		if conn.Close(); err != nil || !strings.HasPrefix(string(all), c.want) {
			t.Errorf("%s: %q, %v", c.name, all, err)
		}
	}
	// The bound of one request is none of the next one's.
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for range 3 {
		io.WriteString(conn, "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		time.Sleep(2 * d.server.patience)
	}
}
