package dockerapi

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/brigd/brig/internal/brig"
)

// defaultDetachKeys are ctrl-p, ctrl-q.
var defaultDetachKeys = []byte{16, 17}

// parseDetachKeys reads Docker's notation: single characters and ctrl-X, separated by commas. "" gives the default.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return defaultDetachKeys, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		k, ok := detachKey(word)
		if !ok {
			return nil, invalid("Invalid detach keys (%s) provided", s)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// detachKey reads one character, or ctrl- with a letter or one of @ [ \ ] ^ _, whose code is the character's with only the low five bits.
func detachKey(word string) (byte, bool) {
	if len(word) == 1 {
		return word[0], true
	}
	rest, ok := strings.CutPrefix(strings.ToLower(word), "ctrl-")
	if !ok || len(rest) != 1 {
		return 0, false
	}
	if c := rest[0]; 'a' <= c && c <= 'z' || strings.IndexByte(`@[\]^_`, c) >= 0 {
		return c & 0x1f, true
	}
	return 0, false
}

// detachReader passes on what r gives until keys come in a row; then it gives what came before them, and brig.ErrDetached.
// It holds back a beginning of the keys until it is known whether the rest comes. One goroutine may use it.
type detachReader struct {
	r    io.Reader
	keys []byte
	held []byte // a proper beginning of keys
	out  []byte // to be given
	err  error  // to be given after out
}

func (d *detachReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.out) == 0 && d.err == nil {
		buf := make([]byte, len(p))
		n, err := d.r.Read(buf)
		d.feed(buf[:n])
		if err != nil && !errors.Is(d.err, brig.ErrDetached) {
			d.out, d.held, d.err = append(d.out, d.held...), nil, err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	if n > 0 {
		return n, nil
	}
	return 0, d.err
}

func (d *detachReader) feed(b []byte) {
	for _, c := range b {
		d.held = append(d.held, c)
		for !bytes.HasPrefix(d.keys, d.held) {
			d.out = append(d.out, d.held[0])
			d.held = d.held[1:]
		}
		if len(d.held) == len(d.keys) {
			d.held, d.err = nil, brig.ErrDetached
			return
		}
	}
}
