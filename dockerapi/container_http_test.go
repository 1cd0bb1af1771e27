package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// call sends a request and returns status and body.
func (p *port) call(method, path, body string) (int, string) {
	p.t.Helper()
	resp := p.open(method, path, body)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(b)
}

func (p *port) open(method, path, body string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://brig"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// create makes a container and returns its ID.
func (p *port) create(name, body string) string {
	p.t.Helper()
	status, out := p.call("POST", "/v1.51/containers/create?name="+name, body)
	var doc struct{ ID string }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || status != http.StatusCreated {
		p.t.Fatalf("create %s: %d %s", name, status, out)
	}
	return doc.ID
}

func TestCreateAnswers(t *testing.T) {
	p := newPort(t, echo)
	for _, c := range []struct {
		name, query, body string
		status            int
		want              string
	}{
		{"good", "?name=a1", `{"Image":"busybox"}`, 201, `"Warnings":["from the engine"]`},
		{"name taken", "?name=/a1", `{"Image":"busybox"}`, 409, "is already in use"},
		{"image missing", "", `{"Image":"nope:latest"}`, 404, `{"message":"No such image: nope:latest"}`},
		{"no body", "", "", 400, "invalid JSON"},
		{"null", "", "null", 400, "config cannot be empty in order to create a container"},
		{"not JSON", "", "x", 400, "invalid JSON"},
		{"unknown runtime", "", `{"Image":"busybox","HostConfig":{"Runtime":"kata"}}`, 400, "unknown or invalid runtime name: kata"},
		{"known runtime", "?name=a2", `{"Image":"busybox","HostConfig":{"Runtime":"runc"}}`, 201, `"Id":`},
		{"too little memory", "", `{"Image":"busybox","HostConfig":{"Memory":1000}}`, 400, "Minimum memory limit allowed is 6MB"},
	} {
		status, out := p.call("POST", "/containers/create"+c.query, c.body)
		if status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, status, out, c.status, c.want)
		}
	}
}

func TestLifecycleStatuses(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox"}`)
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", "/containers/c1/start", 204, ""},
		{"POST", "/containers/c1/start", 304, ""},
		{"POST", "/containers/nope/start", 404, "No such container: nope"},
		{"POST", "/containers/c1/pause", 204, ""},
		{"POST", "/containers/c1/attach?stream=1", 409, "unpause the container before attach"},
		{"POST", "/containers/c1/unpause", 204, ""},
		{"POST", "/containers/c1/resize?h=20&w=30", 200, ""},
		{"POST", "/containers/c1/resize?h=a&w=30", 400, "invalid resize height"},
		{"POST", "/containers/c1/stop?t=x", 400, "not a number"},
		{"GET", "/containers/c1/top?ps_args=-o+pid", 200, `{"Processes":[["-o","pid"]],"Titles":["PID"]}`},
		{"GET", "/containers/c1/changes", 200, `[{"Kind":0,"Path":"/etc"},{"Kind":1,"Path":"/new"},{"Kind":2,"Path":"/gone"}]`},
		{"GET", "/containers/c1/export", 200, "a tar"},
		{"POST", "/containers/c1/rename", 400, "Neither old nor new names may be empty"},
		{"POST", "/containers/c1/rename?name=/c2", 204, ""},
		{"POST", "/containers/c2/wait?condition=soon", 400, `invalid condition: \"soon\"`},
		{"DELETE", "/containers/c2", 409, "container is running"},
		{"POST", "/containers/c2/kill?signal=KILL", 204, ""},
		{"POST", "/containers/c2/wait", 200, `{"StatusCode":137}`},
		{"DELETE", "/containers/c2?link=1", 500, "Conflict, cannot remove the default link name of the container"},
		{"DELETE", "/containers/c2?v=1", 204, ""},
		{"GET", "/containers/c2/json", 404, "No such container: c2"},
		{"POST", "/containers/c2/update", 400, "got EOF"},
		{"GET", "/containers/nosuch/attach/ws", 404, "No such container"},
	} {
		if status, out := p.call(c.method, c.path, ""); status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.method, c.path, status, out, c.status, c.want)
		}
	}
}

func TestWaitIsRegisteredBeforeItsHeaders(t *testing.T) {
	p := newPort(t, func(io.Reader, io.Writer, io.Writer) int { return 7 })
	p.create("c1", `{"Image":"busybox"}`)
	resp := p.open("POST", "/containers/c1/wait?condition=next-exit", "") // returns with the headers
	defer resp.Body.Close()
	p.mu.Lock()
	waiters := len(p.ships[0].waiters)
	p.mu.Unlock()
	if waiters != 1 {
		t.Fatalf("%d waiters when the headers were there, want 1", waiters)
	}
	if status, out := p.call("POST", "/containers/c1/start", ""); status != http.StatusNoContent {
		t.Fatalf("start: %d %s", status, out)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "{\"StatusCode\":7}\n" {
		t.Fatalf("wait: %q, %v", b, err)
	}
}

func TestArchive(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox"}`)
	resp := p.open("HEAD", "/containers/c1/archive?path=/new", "")
	resp.Body.Close()
	doc, err := base64.StdEncoding.DecodeString(resp.Header.Get(pathStatHeader))
	if want := `{"name":"new","size":5,"mode":420,"mtime":"2026-01-02T03:04:05Z","linkTarget":""}`; err != nil || string(doc) != want {
		t.Errorf("stat header: %s, %v, want %s", doc, err, want)
	}
	if resp := p.open("HEAD", "/containers/c1/archive?path=/nope", ""); resp.StatusCode != 404 {
		t.Errorf("stat of a missing path: %d", resp.StatusCode)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/containers/c1/archive?path=/new", "", 200, "12345"},
		{"GET", "/containers/c1/archive?path=/nope", "", 404, "Could not find the file /nope"},
		{"GET", "/containers/c1/archive", "", 400, "path cannot be empty"},
		{"PUT", "/containers/c1/archive?path=/in&noOverwriteDirNonDir=true", "some tar", 200, ""},
		{"GET", "/containers/c1/archive?path=/in", "", 200, "some tar"},
	} {
		if status, out := p.call(c.method, c.path, c.body); status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, out)
		}
	}
}

func TestLogs(t *testing.T) {
	p := newPort(t, echo)
	p.log = []brig.LogEntry{{Stream: "stdout", Time: 1e9, Line: []byte("one\n")}, {Stream: "stderr", Time: 2e9 + 5, Line: []byte("two")}}
	p.create("c1", `{"Image":"busybox"}`)
	p.create("tty", `{"Image":"busybox","Tty":true}`)
	p.create("mute", `{"Image":"busybox","HostConfig":{"LogConfig":{"Type":"none"}}}`)
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/containers/c1/logs?stdout=1&stderr=1", 200, "\x01\x00\x00\x00\x00\x00\x00\x04one\n\x02\x00\x00\x00\x00\x00\x00\x03two"},
		{"/containers/tty/logs?stdout=1&timestamps=1", 200, "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.000000005Z two"},
		{"/containers/tty/logs?stdout=1&details=1", 200, " one\n two"},
		{"/containers/c1/logs", 400, `{"message":"Bad parameters: you must choose at least one stream"}` + "\n"},
		{"/containers/c1/logs?stdout=1&since=soon", 400, ""},
		{"/containers/mute/logs?stdout=1", 501, `{"message":"configured logging driver does not support reading"}` + "\n"},
		{"/containers/nope/logs?stdout=1", 404, `{"message":"No such container: nope"}` + "\n"},
	} {
		if status, out := p.call("GET", c.path, ""); status != c.status || c.want != "" && out != c.want {
			t.Errorf("%s: %d %q, want %q", c.path, status, out, c.want)
		}
	}
	for version, want := range map[string]string{"1.41": rawStream, "1.51": muxedStream} {
		resp := p.open("GET", "/v"+version+"/containers/c1/logs?stdout=1", "")
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("content type for %s: %s, want %s", version, got, want)
		}
	}
}

func TestLogsFollowSendsHeadersAtOnceAndEndsWithTheClient(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox"}`)
	resp := p.open("GET", "/containers/c1/logs?stdout=1&follow=1", "")
	resp.Body.Close() // the server's shutdown in Cleanup waits for the handler
}

func TestPrune(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox","Labels":{"keep":"1"}}`)
	id := p.create("c2", `{"Image":"busybox"}`)
	p.create("c3", `{"Image":"busybox"}`)
	p.call("POST", "/containers/c3/start", "")
	filters := url.QueryEscape(`{"label!":{"keep":true}}`)
	if status, out := p.call("POST", "/containers/prune?filters="+filters, ""); status != 200 || out != `{"ContainersDeleted":["`+id+`"],"SpaceReclaimed":5}`+"\n" {
		t.Errorf("prune: %d %s", status, out)
	}
	if status, out := p.call("POST", "/containers/prune?filters="+url.QueryEscape(`{"x":["y"]}`), ""); status != 400 || !strings.Contains(out, "invalid filter 'x'") {
		t.Errorf("prune with an unknown filter: %d %s", status, out)
	}
	p.call("POST", "/containers/c3/kill", "")
}
