package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"syscall"

	"github.com/brigd/brig/internal/errs"
)

// A message is its length (4 bytes, big endian) and that many bytes of JSON. A client sends one request and reads one answer.
// That, and the requests hello and quit, are the same in all versions, so that any brigd can replace any keeper.

// protocol is the version of what else is said.
const protocol = 1

// maxMessage bounds a message, in bytes: ten thousand containers' state.
const maxMessage = 32 << 20

// Requests.
const (
	opHello   = "hello"
	opSet     = "set"
	opReserve = "reserve"
	opQuit    = "quit"
)

type request struct {
	Op    string
	State *State `json:",omitempty"` // set
	Ports []Port `json:",omitempty"` // reserve
}

type answer struct {
	Protocol   int
	PID        int       `json:",omitempty"` // hello
	Superseded bool      `json:",omitempty"` // no answer: another client has come, and this connection ends
	Ports      []Port    `json:",omitempty"` // reserve
	Errors     []failure `json:",omitempty"`
}

// failure is an error on its way to the client.
type failure struct {
	Kind  errs.Kind
	Text  string
	InUse bool `json:",omitempty"` // EADDRINUSE
}

func failures(all []error) (out []failure) {
	for _, err := range all {
		out = append(out, failure{errs.KindOf(err), err.Error(), errors.Is(err, syscall.EADDRINUSE)})
	}
	return out
}

// err makes an error of the failures; nil if there are none.
func (a *answer) err() error {
	var all []error
	for i := range a.Errors {
		all = append(all, errs.As(a.Errors[i].Kind, &a.Errors[i]))
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

func (f *failure) Error() string        { return f.Text }
func (f *failure) Is(target error) bool { return f.InUse && target == syscall.EADDRINUSE }

func writeMessage(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return errs.Wrap(err, "encode a message")
	}
	if len(b) > maxMessage {
		return errs.New(errs.Invalid, "a message of %d bytes is too long", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// readMessage decodes one message into v. io.EOF: the peer closed between messages.
func readMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return errs.New(errs.Invalid, "a message of %d bytes is too long", n)
	}
	body := io.LimitReader(r, int64(n)) // memory grows with what has come, not with what was announced
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return errs.As(errs.Invalid, errs.Wrap(err, "decode a message"))
	}
	_, err := io.Copy(io.Discard, body)
	return err
}
