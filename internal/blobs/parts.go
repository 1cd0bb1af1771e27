package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// keepFrom is how many bytes of a blob make it worth keeping when its download is given up.
const keepFrom = 1 << 20

// maxSpans bounds what a ledger names: what is left out is fetched again.
const maxSpans = 16

// A span is a range of bytes, the end excluded.
type span struct{ from, to int64 }

// spans are ranges, sorted, that don't touch.
type spans []span

func (s spans) add(from, to int64) spans {
	if from >= to {
		return s
	}
	n := 0
	for n < len(s) && s[n].to < from {
		n++
	}
	m := n
	for m < len(s) && s[m].from <= to {
		from, to = min(from, s[m].from), max(to, s[m].to)
		m++
	}
	return slices.Replace(s, n, m, span{from, to})
}

// prefix is how many bytes from the first on are there.
func (s spans) prefix() int64 {
	if len(s) == 0 || s[0].from > 0 {
		return 0
	}
	return s[0].to
}

func (s spans) total() (n int64) {
	for _, x := range s {
		n += x.to - x.from
	}
	return n
}

// gaps lists what is missing of size bytes, in pieces of at most length.
func (s spans) gaps(size, length int64) (out [][2]int64) {
	at := int64(0)
	for _, x := range append(slices.Clone(s), span{size, size}) {
		for ; at < x.from; at = min(at+length, x.from) {
			out = append(out, [2]int64{at, min(at+length, x.from)})
		}
		at = max(at, x.to)
	}
	return out
}

// A ledger is the file beside a partial download that says which of its bytes have been written, as what was written last may lie
// behind a gap. It is written after the bytes, in one call, and may be behind them. It isn't synced: after a loss of power it may be ahead
// of them, and then the digest won't fit. A nil ledger does nothing.
type ledger struct {
	store *Store
	hex   string
	size  int64
	file  *os.File
}

const ledgerMagic = "brigpart"

func (s *Store) partPath(hex string) string   { return filepath.Join(s.parts, hex) }
func (s *Store) ledgerPath(hex string) string { return filepath.Join(s.parts, hex+".have") }

// note writes down what is there.
func (l *ledger) note(have spans) error {
	if l == nil {
		return nil
	}
	_, err := l.file.WriteAt(encodeLedger(l.size, have), 0)
	return err
}

// encodeLedger: the magic, the blob's size, 16 pairs of offsets, and a checksum of all that, in big endian.
func encodeLedger(size int64, have spans) []byte {
	b := make([]byte, 0, len(ledgerMagic)+8+16*maxSpans+4)
	b = append(b, ledgerMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	for n := range maxSpans {
		var x span
		if n < len(have) {
			x = have[n]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(x.from))
		b = binary.BigEndian.AppendUint64(b, uint64(x.to))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// decodeLedger returns nothing for what isn't a ledger of a blob of that size.
func decodeLedger(b []byte, size int64) (have spans) {
	end := len(b) - 4
	if len(b) != len(encodeLedger(0, nil)) || !strings.HasPrefix(string(b), ledgerMagic) ||
		crc32.ChecksumIEEE(b[:end]) != binary.BigEndian.Uint32(b[end:]) || binary.BigEndian.Uint64(b[len(ledgerMagic):]) != uint64(size) {
		return nil
	}
	for p := b[len(ledgerMagic)+8 : end]; len(p) > 0; p = p[16:] {
		from, to := int64(binary.BigEndian.Uint64(p)), int64(binary.BigEndian.Uint64(p[8:]))
		if from < 0 || to > size || from > to {
			return nil
		}
		have = have.add(from, to)
	}
	return have
}

// end closes the ledger, and removes it if the part is gone.
func (l *ledger) end(gone bool) {
	if l == nil {
		return
	}
	l.file.Close()
	if gone {
		os.Remove(l.file.Name())
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	delete(l.store.writing, l.hex)
}

// Resume is Create for a blob whose bytes are worth keeping if they don't all come: it goes on from what a former Writer of the same blob
// left, even one whose process was killed. Verify must be called before the first Write. While another Writer resumes the same blob, it is Create.
func (s *Store) Resume(ctx context.Context, want brig.Digest, size int64) (*Writer, error) {
	if _, err := s.path(want); err != nil {
		return nil, err
	}
	hex := want.Hex()
	s.mu.Lock()
	busy := s.writing[hex]
	s.writing[hex] = true
	s.mu.Unlock()
	if busy || size < keepFrom || ctx.Err() != nil {
		if !busy {
			(&ledger{store: s, hex: hex}).forget()
		}
		return s.Create(ctx, want, size)
	}
	l := &ledger{store: s, hex: hex, size: size}
	w := &Writer{store: s, want: want, limit: size, hash: sha256.New(), path: s.partPath(hex), part: l}
	if err := w.openPart(); err != nil {
		l.forget()
		return nil, err
	}
	return w, nil
}

func (l *ledger) forget() {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	delete(l.store.writing, l.hex)
}

// openPart opens both files and reads what is there.
func (w *Writer) openPart() (err error) {
	if w.file, err = os.OpenFile(w.path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if w.part.file, err = os.OpenFile(w.store.ledgerPath(w.part.hex), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		w.file.Close()
		return err
	}
	b := make([]byte, len(encodeLedger(0, nil))+1)
	n, _ := w.part.file.ReadAt(b, 0) // what can't be read is no ledger
	have := decodeLedger(b[:n], w.limit)
	st, err := w.file.Stat()
	if err == nil && len(have) > 0 && have[len(have)-1].to > st.Size() {
		have = nil
	}
	if err == nil && have == nil {
		err = w.file.Truncate(0)
	}
	w.have = have
	if err == nil {
		err = w.part.note(have)
	}
	if err != nil {
		w.file.Close()
		w.part.file.Close()
	}
	return err
}

// Verify hashes what was there from the first byte on, and shows it to followers. If ctx ends, the rest can't be trusted and the Writer
// can only be given up.
func (w *Writer) Verify(ctx context.Context) error {
	w.mu.Lock()
	w.hashing = true
	w.mu.Unlock()
	return w.hashOn(ctx, nil)
}

// setAside makes a blob that nobody needs a part of which all bytes are there, or removes it if it isn't worth that. A crash before the
// rename leaves a ledger that belongs to nothing.
func (s *Store) setAside(e Entry) error {
	if e.Size < keepFrom {
		return s.Remove(e.Digest)
	}
	path, err := s.path(e.Digest)
	if err != nil {
		return err
	}
	hex := e.Digest.Hex()
	if err := os.WriteFile(s.ledgerPath(hex), encodeLedger(e.Size, spans{{0, e.Size}}), 0o600); err != nil {
		return err
	}
	return os.Rename(path, s.partPath(hex))
}

// Partials counts the unfinished downloads that nobody goes on with, and their bytes.
func (s *Store) Partials() (n int, bytes int64, err error) {
	files, err := os.ReadDir(s.parts)
	if err != nil {
		return 0, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".have") || s.writing[f.Name()] {
			continue
		}
		if st, err := f.Info(); err == nil {
			n, bytes = n+1, bytes+st.Size()
		}
	}
	return n, bytes, nil
}

// DropPartial removes what is left of an unfinished download, if nobody goes on with it.
func (s *Store) DropPartial(d brig.Digest) error {
	if _, err := s.path(d); err != nil {
		return err
	}
	_, _, err := s.dropPart(d.Hex(), 0)
	return err
}

// DropPartials removes what unfinished downloads have left and nobody has written to for age, and what belongs to no download. It returns
// how many there were and their bytes. It goes on after a failure and joins the errors.
func (s *Store) DropPartials(age time.Duration) (n int, bytes int64, err error) {
	files, err := os.ReadDir(s.parts)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range files {
		hex := strings.TrimSuffix(f.Name(), ".have")
		d, perr := brig.ParseDigest("sha256:" + hex)
		if perr != nil {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.parts, f.Name())))
			continue
		}
		least := age
		if s.Has(d) {
			least = 0
		}
		gone, size, derr := s.dropPart(hex, least)
		if gone {
			n, bytes = n+1, bytes+size
		}
		err = errors.Join(err, derr)
	}
	return n, bytes, err
}

// dropPart removes a part that is age old, or has no ledger, or is none.
func (s *Store) dropPart(hex string, age time.Duration) (gone bool, size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing[hex] {
		return false, 0, nil
	}
	st, err := os.Lstat(s.partPath(hex))
	_, lerr := os.Lstat(s.ledgerPath(hex))
	switch {
	case errors.Is(err, fs.ErrNotExist) && lerr != nil:
		return false, 0, nil
	case err == nil && lerr == nil && time.Since(st.ModTime()) < age:
		return false, 0, nil
	case err == nil:
		gone, size = true, st.Size()
	}
	err = errors.Join(os.RemoveAll(s.partPath(hex)), os.RemoveAll(s.ledgerPath(hex)))
	return gone && err == nil, size, errs.Wrap(err, "remove an unfinished download")
}
