package dockerapi

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/brigd/brig/internal/brig"
)

// hijacked is a client's side of an upgraded connection.
type hijacked struct {
	*net.UnixConn
	r    *bufio.Reader
	head *http.Response
}

func (h *hijacked) Read(b []byte) (int, error) { return h.r.Read(b) }

// upgrade sends a request that asks for an upgrade, with early right behind it, and reads the answer's head.
func (p *port) upgrade(path, body, early string) *hijacked {
	p.t.Helper()
	c, err := net.Dial("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: brig\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s", path, len(body), body, early)
	h := &hijacked{UnixConn: c.(*net.UnixConn), r: bufio.NewReader(c)}
	if h.head, err = http.ReadResponse(h.r, &http.Request{Method: "POST"}); err != nil {
		p.t.Fatalf("POST %s: %v", path, err)
	}
	return h
}

func (p *port) start(name string) {
	p.t.Helper()
	if status, out := p.call("POST", "/containers/"+name+"/start", ""); status != http.StatusNoContent {
		p.t.Fatalf("start %s: %d %s", name, status, out)
	}
}

const allStreams = "?stream=1&stdin=1&stdout=1&stderr=1"

func TestFiftyMegabytesThereAndBack(t *testing.T) {
	const size = 50 << 20
	for _, c := range []struct{ name, body, contentType string }{
		{"framed", `{"Image":"busybox","OpenStdin":true,"StdinOnce":true}`, muxedStream},
		{"tty", `{"Image":"busybox","OpenStdin":true,"StdinOnce":true,"Tty":true}`, rawStream},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPort(t, echo)
			p.create("c1", c.body)
			h := p.upgrade("/containers/c1/attach"+allStreams, "", "")
			if h.head.StatusCode != 101 || h.head.Header.Get("Upgrade") != "tcp" || h.head.Header.Get("Content-Type") != c.contentType {
				t.Fatalf("head: %d %v", h.head.StatusCode, h.head.Header)
			}
			p.start("c1")
			sent := sha256.New()
			go func() {
				src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
				if c.name == "tty" { // without the detach keys
					src = io.TeeReader(io.LimitReader(zeros{}, size), sent)
				}
				io.Copy(struct{ io.Writer }{h.UnixConn}, src)
				h.CloseWrite()
			}()
			got := sha256.New()
			var n int64
			var err error
			if c.name == "tty" {
				n, err = io.Copy(got, h)
			} else {
				n, err = stdcopy.StdCopy(got, io.Discard, h)
			}
			if err != nil || n != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
				t.Errorf("came back: %d of %d bytes, %v", n, size, err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestBytesBehindTheRequestReachStdin(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox","OpenStdin":true,"StdinOnce":true}`)
	h := p.upgrade("/containers/c1/attach"+allStreams, "", strings.Repeat("early ", 900))
	p.start("c1")
	io.WriteString(h, "late")
	h.CloseWrite()
	var out strings.Builder
	if _, err := stdcopy.StdCopy(&out, io.Discard, h); err != nil || out.String() != strings.Repeat("early ", 900)+"late" {
		t.Errorf("came back: %d bytes ending in %.10q, %v", out.Len(), out.String()[max(0, out.Len()-10):], err)
	}
}

func TestAttachWithoutUpgradeAnswers200(t *testing.T) {
	p := newPort(t, func(_ io.Reader, out, err io.Writer) int {
		io.WriteString(out, "out")
		io.WriteString(err, "err")
		return 0
	})
	p.create("c1", `{"Image":"busybox"}`)
	resp := p.open("POST", "/containers/c1/attach?stream=1&stdout=1&stderr=1", "")
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != rawStream {
		t.Fatalf("head: %d %v", resp.StatusCode, resp.Header)
	}
	p.start("c1")
	var out, err strings.Builder
	if _, e := stdcopy.StdCopy(&out, &err, resp.Body); e != nil || out.String() != "out" || err.String() != "err" {
		t.Errorf("came back: %q, %q, %v", out.String(), err.String(), e)
	}
}

func TestDetachKeysEndTheAttachAndNotTheContainer(t *testing.T) {
	for _, c := range []struct{ query, typed, echoed string }{
		{"", "ab\x10c\x10\x11", "ab\x10c"},
		{"&detachKeys=ctrl-a,d", "ab\x01\x01d", "ab\x01"},
	} {
		p := newPort(t, echo)
		p.create("c1", `{"Image":"busybox","OpenStdin":true,"Tty":true}`)
		p.start("c1")
		h := p.upgrade("/containers/c1/attach"+allStreams+c.query, "", "")
		io.WriteString(h, c.typed)
		out, err := io.ReadAll(h)
		if err != nil || !strings.HasPrefix(c.echoed, string(out)) {
			t.Errorf("%q: got %q, %v", c.typed, out, err)
		}
		if _, list := p.call("GET", "/containers/c1/json", ""); !strings.Contains(list, `"Status":"running"`) {
			t.Errorf("%q: the container is not running after a detach", c.typed)
		}
		p.call("POST", "/containers/c1/kill", "")
	}
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox","Tty":true}`)
	if status, out := p.call("POST", "/containers/c1/attach?detachKeys=ctrl-%C3%A4", ""); status != 400 || !strings.Contains(out, "Invalid detach keys") {
		t.Errorf("bad keys: %d %s", status, out)
	}
}

// waitFor polls until ok; a test that waits for ever is ended by the test binary's own time limit.
func waitFor(ok func() bool) {
	for !ok() {
		time.Sleep(time.Millisecond)
	}
}

func TestVanishedClientLeavesNoGoroutine(t *testing.T) {
	deaf := func(in io.Reader, _, _ io.Writer) int { select {} }
	for _, c := range []struct {
		name string
		prog program
		act  func(h *hijacked)
	}{
		{"idle", echo, func(h *hijacked) {}},
		{"half closed before", echo, func(h *hijacked) { h.CloseWrite() }},
		{"input that nobody reads", deaf, func(h *hijacked) {
			h.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			io.Copy(struct{ io.Writer }{h.UnixConn}, zeros{})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPort(t, c.prog)
			p.create("c1", `{"Image":"busybox","OpenStdin":true}`)
			p.start("c1")
			p.client.CloseIdleConnections()
			waitFor(func() bool { return !strings.Contains(stacks(), "net/http.(*conn).serve") })
			before := goruntime.NumGoroutine()
			h := p.upgrade("/containers/c1/attach"+allStreams, "", "")
			c.act(h)
			h.Close()
			waitFor(func() bool { return goruntime.NumGoroutine() <= before })
			p.call("POST", "/containers/c1/kill", "")
		})
	}
}

func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:goruntime.Stack(b, true)])
}

func TestOutputIsWholeWhileTheClientStillSends(t *testing.T) {
	p := newPort(t, func(_ io.Reader, out, _ io.Writer) int {
		out.Write(bytes.Repeat([]byte("x"), 300<<10))
		return 0
	})
	p.create("c1", `{"Image":"busybox","OpenStdin":true}`)
	h := p.upgrade("/containers/c1/attach"+allStreams, "", strings.Repeat("y", 64<<10))
	go io.Copy(struct{ io.Writer }{h.UnixConn}, zeros{}) // ends with the connection
	p.start("c1")
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, h); err != nil || out.Len() != 300<<10 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestAttachErrors(t *testing.T) {
	p := newPort(t, echo)
	p.create("broken", `{"Image":"busybox"}`)
	h := p.upgrade("/containers/nope/attach?stream=1&stdout=1", "", "")
	if b, _ := io.ReadAll(h.head.Body); h.head.StatusCode != 404 || !strings.Contains(string(b), "No such container: nope") {
		t.Errorf("before the stream: %d %s", h.head.StatusCode, b)
	}
	h = p.upgrade("/containers/broken/attach?stream=1&stdout=1", "", "")
	var out strings.Builder
	if _, err := stdcopy.StdCopy(&out, &out, h); err != nil || out.String() != "Error attaching: the shim does not answer\n" {
		t.Errorf("after it: %q, %v", out.String(), err)
	}
}

func TestExec(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox"}`)
	p.start("c1")
	exec := func(body string) string {
		t.Helper()
		status, out := p.call("POST", "/containers/c1/exec", body)
		var doc struct{ ID string }
		if json.Unmarshal([]byte(out), &doc); status != 201 || doc.ID == "" {
			t.Fatalf("exec create: %d %s", status, out)
		}
		return doc.ID
	}
	id := exec(`{"Cmd":["cat","-u"],"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"User":"me"}`)
	h := p.upgrade("/exec/"+id+"/start", `{"Detach":false}`, "early ")
	if h.head.StatusCode != 101 || h.head.Header.Get("Content-Type") != muxedStream {
		t.Errorf("head: %d %v", h.head.StatusCode, h.head.Header)
	}
	io.WriteString(h, "late")
	h.CloseWrite()
	var out strings.Builder
	if _, err := stdcopy.StdCopy(&out, &out, h); err != nil || out.String() != "early late" {
		t.Errorf("came back: %q, %v", out.String(), err)
	}
	_, doc := p.call("GET", "/exec/"+id+"/json", "")
	for _, want := range []string{`"ExitCode":0`, `"entrypoint":"cat","arguments":["-u"]`, `"OpenStdin":true`, `"CanRemove":false`, `"DetachKeys":""`, `"user":"me"`} {
		if !strings.Contains(doc, want) {
			t.Errorf("inspect lacks %s: %s", want, doc)
		}
	}
	if status, out := p.call("POST", "/exec/"+id+"/start", `{}`); status != 409 {
		t.Errorf("started twice: %d %s", status, out)
	}

	id = exec(`{"Cmd":["nope"],"AttachStdout":true}`)
	h = p.upgrade("/exec/"+id+"/start", `{}`, "")
	out.Reset()
	if _, err := stdcopy.StdCopy(&out, io.Discard, h); err != nil || !strings.Contains(out.String(), "executable file not found") {
		t.Errorf("failed exec: %q, %v", out.String(), err)
	}
	if e, err := p.ExecGet(t.Context(), id); err != nil || *e.ExitCode != 127 {
		t.Errorf("failed exec: %+v, %v", e, err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/containers/c1/exec", `{}`, 400, "No exec command specified"},
		{"POST", "/exec/nope/start", `{}`, 404, "No such exec instance: nope"},
		{"GET", "/exec/nope/json", "", 404, "No such exec instance: nope"},
		{"POST", "/exec/" + exec(`{"Cmd":["nope"]}`) + "/start", `{"Detach":true}`, 400, "executable file not found"},
		{"POST", "/exec/" + exec(`{"Cmd":["true"]}`) + "/start", `{"Detach":true}`, 200, ""},
		{"POST", "/exec/" + id + "/resize?h=1&w=2", "", 200, ""},
	} {
		if status, out := p.call(c.method, c.path, c.body); status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, out)
		}
	}
	p.call("POST", "/containers/c1/kill", "")
}

func TestDetachReader(t *testing.T) {
	for _, c := range []struct {
		keys, in, out string
		detached      bool
	}{
		{"\x10\x11", "abc", "abc", false},
		{"\x10\x11", "a\x10\x11b", "a", true},
		{"\x10\x11", "a\x10", "a\x10", false},
		{"\x10\x11", "\x10\x10\x11", "\x10", true},
		{"aab", "aaab", "a", true},
		{"q", "xq", "x", true},
	} {
		for _, step := range []int{1, 2, 64} {
			d := &detachReader{r: &slowReader{c.in, step}, keys: []byte(c.keys)}
			var out []byte
			var err error
			for b := make([]byte, 2); err == nil; {
				var n int
				n, err = d.Read(b)
				out = append(out, b[:n]...)
			}
			if string(out) != c.out || (err == brig.ErrDetached) != c.detached {
				t.Errorf("keys %q, in %q by %d: %q, %v", c.keys, c.in, step, out, err)
			}
		}
	}
}

type slowReader struct {
	s    string
	step int
}

func (r *slowReader) Read(b []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), r.step)], r.s)
	r.s = r.s[n:]
	return n, nil
}
