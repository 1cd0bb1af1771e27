package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// load is what a brigd holds: goroutines and descriptors as it says, children as the kernel does.
type load struct{ goroutines, files, children int }

func loadOf(t *testing.T, pid int, get func(string) string) (l load) {
	t.Helper()
	var info struct{ NGoroutines, NFd int }
	if err := json.Unmarshal([]byte(get("/info")), &info); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.children, err = testbed.Children(pid); err != nil {
		t.Fatal(err)
	}
	if l.files, err = testbed.OpenFiles(pid); err != nil {
		t.Fatal(err)
	}
	l.goroutines = info.NGoroutines
	return l
}

// Clients that vanish in the middle of everything, or never begin, leave nothing behind in brigd.
func TestVanishingClients(t *testing.T) {
	s, cli := daemon(t)
	get := func(path string) string {
		status, _, body, err := s.Get(bed.ctx, path)
		if err != nil || status != 200 {
			t.Fatalf("GET %s: %d, %v", path, status, err)
		}
		return body
	}
	id := done(t, cli, "run", "-d", "-i", image("busybox"), "sh", "-c", "echo tick; sleep 600")
	exec := func() string { return done(t, cli, "exec", id, "true") }
	exec() // what is made once is made
	before := loadOf(t, s.Pid(), get)
	var open []net.Conn
	closeAll := func() {
		for _, c := range open {
			c.Close()
		}
		open = nil
	}
	defer closeAll()
	send := func(text string, answered bool) {
		t.Helper()
		c := dial(t, s)
		open = append(open, c)
		if _, err := io.WriteString(c, strings.ReplaceAll(text, "ID", id)); err != nil {
			t.Fatal(err)
		}
		if answered {
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") && !strings.HasPrefix(line, "HTTP/1.1 101") {
				t.Fatalf("%s: %q, %v", text, line, err)
			}
		}
	}
	for range 20 {
		send("POST /containers/ID/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", true)
		send("GET /v1.41/containers/ID/attach/ws?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: http://d\r\n\r\n", true)
		send("GET /containers/ID/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n", true)
		send("GET /events HTTP/1.1\r\nHost: d\r\n\r\n", true)
		send("POST /containers/ID/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", true)
		send("POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false)
		send("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", false)
		send("PUT /containers/ID/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false)
		send("GET /info HT", false)
	}
	closeAll()
	for range 10_000 { // and some that never say anything
		send("", false)
	}
	equal(t, "exec with idle connections", exec(), "")
	closeAll()
	eventually(t, "brigd is as before", func() (bool, string) {
		now := loadOf(t, s.Pid(), get)
		same := now.goroutines <= before.goroutines && now.files <= before.files && now.children <= before.children
		return same, fmt.Sprintf("%+v, before %+v", now, before)
	})
	equal(t, "container", done(t, cli, "inspect", "-f", "{{.State.Running}}", id), "true")
}
