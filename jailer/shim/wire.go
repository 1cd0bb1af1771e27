// Package shim is the small process that stays with one container's main process: it holds the streams, writes the log,
// reaps, and serves attach, exec, resize, signals and waiting on a Unix socket, whatever becomes of the daemon.
//
// It keeps off fmt, net, reflect and encoding/json, because one shim runs for each container and every page it touches counts.
//
// The protocol is a sequence of frames, each a type (1 byte), a length (4 bytes, big endian, at most MaxFrame) and that many bytes.
// A connection carries one request. A request's payload, and a reply's, is a list of fields, each ended by a NUL.
package shim

import (
	"errors"
	"io"
	"strings"
)

// Requests.
const (
	ReqPing   = 'P' // → Ok(init pid or 0, "1" if it has ended)
	ReqStart  = 'S' // argv… of the OCI runtime → Ok(pid) or Fail
	ReqExec   = 'X' // id, flags, argv… → Attached, then Ok(pid) or Fail, then streams, then Exited
	ReqAttach = 'A' // flags → Attached, then streams, then Exited
	ReqResize = 'R' // id, rows, columns → Ok or Fail
	ReqSignal = 'G' // id, number → Ok or Fail
	ReqWait   = 'W' // id → Exited, once the process has ended and its output is in the log; Fail for an exec that is gone
	ReqClose  = 'C' // id → Ok or Fail; the process's standard input ends once what clients have sent is read and none is left
	ReqQuit   = 'Q' // → Ok("1" if output for attached clients is still on its way); the shim ends
)

// Frames that are no requests.
const (
	Ok         = 'k'
	Fail       = 'e' // kind, text
	Attached   = 'a'
	Stdin      = '0' // data for the process
	Stdout     = '1'
	Stderr     = '2'
	CloseStdin = 'c'
	Exited     = 'x' // code, Unix nanoseconds, "1" if killed for want of memory, error text
)

// Flags of ReqExec and ReqAttach, each one letter in one string.
const (
	FlagStdin  = "i"
	FlagStdout = "o"
	FlagStderr = "e"
	FlagTTY    = "t"
)

// Kinds of Fail.
const (
	FailRuntime  = "runtime"  // text is what the OCI runtime said
	FailNotFound = "notfound" // no such process, or it has ended
	FailInternal = "internal"
)

// Names of files in a jail's run directory, which is the shim's working directory.
const (
	SocketName  = "s"
	ExitName    = "exit"
	RuntimeLog  = "runtime.log"
	PidName     = "pid"
	ConsoleName = "tty" // socket on which the OCI runtime gives the terminal's master
	StderrName  = "shim.log"
)

// MaxFrame bounds a frame's payload, in bytes.
const MaxFrame = 64 << 10

// MaxData is how many bytes of stream data go into one frame.
const MaxData = 32 << 10

var errFrame = errors.New("frame is too long")

// AppendFrame appends a frame to b.
func AppendFrame(b []byte, kind byte, payload []byte) []byte {
	n := len(payload)
	b = append(b, kind, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(b, payload...)
}

// AppendFields appends a frame whose payload is the fields.
func AppendFields(b []byte, kind byte, fields ...string) []byte {
	n := 0
	for _, f := range fields {
		n += len(f) + 1
	}
	b = append(b, kind, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	for _, f := range fields {
		b = append(append(b, f...), 0)
	}
	return b
}

// ReadFrame reads one frame into buf, which grows as needed; the payload is valid until buf is used again.
// io.EOF: the peer closed between frames.
func ReadFrame(r io.Reader, buf []byte) (kind byte, payload, newBuf []byte, err error) {
	var head [5]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, buf, err
	}
	n := int(head[1])<<24 | int(head[2])<<16 | int(head[3])<<8 | int(head[4])
	if n > MaxFrame {
		return 0, nil, buf, errFrame
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err = io.ReadFull(r, payload); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return head[0], payload, buf, err
}

// Fields splits a payload of fields.
func Fields(payload []byte) []string {
	s := string(payload)
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\x00"), "\x00")
}
