package survivor

import (
	"encoding/binary"
	"encoding/json"
	"io"

	"github.com/brigd/brig/internal/errs"
)

// A message is its length (4 bytes, big endian) and that many bytes of JSON. A client sends one request and reads one answer.
// That, the requests hello and quit, and Head's fields are the same in all versions, so that any brigd can replace any survivor.

// Requests that every survivor knows.
const (
	OpHello = "hello"
	OpQuit  = "quit"
)

// Request is what each request has.
type Request struct{ Op string }

// Head is what each answer has.
type Head struct {
	Protocol   int  // the version of what else is said
	PID        int  `json:",omitempty"` // hello
	Superseded bool `json:",omitempty"` // no answer: another client has come, and this connection ends
}

// maxMessage bounds a message, in bytes: ten thousand containers' state.
const maxMessage = 32 << 20

// WriteMessage sends v.
func WriteMessage(w io.Writer, v any) error {
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

// ReadMessage decodes one message into v. io.EOF: the peer closed between messages.
func ReadMessage(r io.Reader, v any) error {
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
