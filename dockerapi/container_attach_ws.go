package dockerapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/net/websocket"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// binaryFrames is the API version from which output comes in binary frames; before it came in text frames, which not all bytes fit.
const binaryFrames Version = 28

// containerAttachWS joins a WebSocket to the container's streams, without frames of Docker's own. A WebSocket has no half-close: when
// the client's side ends, the attach does.
func (s *Server) containerAttachWS(ctx context.Context, r *request) (response, error) {
	keys, err := parseDetachKeys(r.query.Get("detachKeys"))
	if err != nil {
		return nil, err
	}
	c, err := s.Containers.Get(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	switch c.State {
	case brig.Paused:
		return nil, errs.New(errs.Conflict, "container %s is paused, unpause the container before attach", r.ref())
	case brig.Restarting:
		return nil, errs.New(errs.Conflict, "container %s is restarting, wait until the container is running", r.ref())
	}
	if !c.Spec.TTY {
		keys = nil
	}
	in, out, errOut := true, true, true // always, before the query could say so
	if r.version >= 42 {
		in, out, errOut = r.flag("stdin"), r.flag("stdout"), r.flag("stderr")
	}
	return func(a *answer) error {
		srv := websocket.Server{Handler: func(ws *websocket.Conn) {
			if ws.PayloadType = websocket.TextFrame; r.version >= binaryFrames {
				ws.PayloadType = websocket.BinaryFrame
			}
			streams := brig.IO{CloseStdin: c.Spec.StdinOnce}
			if out {
				streams.Stdout = ws
			}
			if errOut {
				streams.Stderr = ws
			}
			o := brig.AttachOptions{Logs: r.flag("logs"), Stream: r.flag("stream")}
			s.serveWS(ctx, ws, streams, in && c.Spec.OpenStdin, keys, func(ctx context.Context, io brig.IO) error {
				return s.Terminals.Attach(ctx, string(c.ID), o, io)
			})
		}}
		a.hijacked, a.status = true, http.StatusSwitchingProtocols // srv answers what is no handshake, too
		srv.ServeHTTP(a.ResponseWriter, r.Request)
		return nil
	}, nil
}

// serveWS runs attach with the WebSocket's input, and owns the goroutine that reads it.
func (s *Server) serveWS(ctx context.Context, ws *websocket.Conn, streams brig.IO, in bool, keys []byte, attach func(context.Context, brig.IO) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdin, feed := io.Pipe()
	if in {
		streams.Stdin = stdin
		if len(keys) > 0 {
			streams.Stdin = &detachReader{r: stdin, keys: keys}
		}
	} else {
		stdin.Close() // what the client sends is thrown away
	}
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		if _, err := io.Copy(feed, ws); err == io.ErrClosedPipe {
			io.Copy(io.Discard, ws) // ends with the client's end or this one's
		}
		feed.Close()
		cancel(brig.ErrClientGone)
	}()
	abort := context.AfterFunc(ctx, func() {
		ws.SetDeadline(time.Unix(1, 0)) // whatever waits on the connection fails now
		stdin.CloseWithError(context.Cause(ctx))
	})
	if err := attach(ctx, streams); err != nil && err != brig.ErrDetached && ctx.Err() == nil {
		fmt.Fprintf(ws, "Error attaching: %v\n", err) // fails only if the client is gone
	}
	abort()
	stdin.Close()
	ws.SetWriteDeadline(time.Now().Add(lingerTime))
	ws.Close()
	<-pumped
}
