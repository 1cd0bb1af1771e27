package integration

import (
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// attachWS attaches by WebSocket.
func attachWS(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(bed.server.Host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := websocket.NewConfig("ws://d"+path, "http://d")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(conf, c)
	if err != nil {
		c.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

func TestAttachWebSocket(t *testing.T) {
	id := made(t, ok(t, "create", "-i", image("busybox"), "sh", "-c", "read x; echo got $x; echo err >&2; exit 4"))
	ws := attachWS(t, "/v1.41/containers/"+id+"/attach/ws?stream=1")
	ok(t, "start", id)
	if _, err := ws.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(ws)
	if err != nil || len(out) != len("got word\nerr\n") || !strings.Contains(string(out), "got word\n") || !strings.Contains(string(out), "err\n") {
		t.Errorf("%q, %v", out, err)
	}
	equal(t, "exit code", ok(t, "wait", id), "4")
	if !bed.server.Owned {
		return // API 1.42 brought the choice of streams
	}
	ok(t, "start", id)
	ws = attachWS(t, "/v1.42/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1")
	ws.Write([]byte("again\n"))
	if out, err = io.ReadAll(ws); err != nil || string(out) != "got again\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// Output is in binary frames from API 1.28 on, in text frames before.
func TestAttachWebSocketFrames(t *testing.T) {
	id := made(t, ok(t, "create", "-i", image("busybox"), "cat"))
	ok(t, "start", id)
	for version, want := range map[string]byte{"1.27": websocket.TextFrame, "1.28": websocket.BinaryFrame, "1.41": websocket.BinaryFrame} {
		if version != "1.41" && bed.server.Owned == false {
			continue
		}
		ws := attachWS(t, "/v"+version+"/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1")
		ws.Write([]byte("x\n"))
		var kind byte
		codec := websocket.Codec{Unmarshal: func(_ []byte, k byte, _ interface{}) error { kind = k; return nil }}
		if err := codec.Receive(ws, nil); err != nil || kind != want {
			t.Errorf("%s: frame %d, %v; want %d", version, kind, err, want)
		}
		ws.Close()
		id = made(t, ok(t, "create", "-i", image("busybox"), "cat"))
		ok(t, "start", id)
	}
}
