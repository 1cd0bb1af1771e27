package logline

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Suffixes of a log's name. A numbered file that is being compressed is there with packedSuffix+tempSuffix, too.
const (
	packedSuffix = ".gz"
	tempSuffix   = ".tmp"
	freshSuffix  = ".new"
)

// errHalted ends a compression that is not wanted any more.
var errHalted = errors.New("halted")

// Numbered is the name of the log's full file number n, and its name once it is compressed. For a moment both are there.
func Numbered(path string, n int) (plain, packed string) {
	plain = path + "." + strconv.Itoa(n)
	return plain, plain + packedSuffix
}

// Numbers returns the numbers of the log's full files, the oldest first. None are there if the directory isn't.
func Numbers(path string) ([]int, error) {
	var out []int
	err := eachFile(path, func(_ string, n int, suffix string) {
		if n > 0 && (suffix == "" || suffix == packedSuffix) {
			out = append(out, n)
		}
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// eachFile calls each for every file beside path whose name begins with path's and a dot: n is its number, or 0.
func eachFile(path string, each func(name string, n int, suffix string)) error {
	slash := strings.LastIndexByte(path, '/')
	dir, base := path[:slash+1], path[slash+1:]+"."
	where := dir
	if where == "" {
		where = "."
	}
	d, err := os.Open(where)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		rest, ours := strings.CutPrefix(name, base)
		if !ours {
			continue
		}
		digits, suffix, dotted := strings.Cut(rest, ".")
		if dotted {
			suffix = "." + suffix
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n <= 0 {
			n, suffix = 0, "."+rest
		}
		each(dir+name, n, suffix)
	}
	return err
}

// tidy removes what a crash left half made, finds the highest number, and returns which files are to be compressed.
func (w *Writer) tidy() (left []int, err error) {
	err = eachFile(w.path, func(name string, n int, suffix string) {
		switch {
		case n > 0 && suffix == packedSuffix+tempSuffix, n == 0 && suffix == freshSuffix:
			os.Remove(name)
		case n > 0 && suffix == "":
			w.last = max(w.last, n)
			left = append(left, n)
		case n > 0 && suffix == packedSuffix:
			w.last = max(w.last, n)
		}
	})
	slices.Sort(left)
	return left, err
}

// rotate gives the current file a number and begins a new one. On an error everything is as before.
func (w *Writer) rotate() error {
	fresh := w.path + freshSuffix
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	plain, _ := Numbered(w.path, w.last+1)
	keepIt := w.o.MaxFiles > 1
	if keepIt {
		err = os.Rename(w.path, plain)
	}
	if err == nil {
		if err = os.Rename(fresh, w.path); err != nil && keepIt {
			os.Rename(plain, w.path)
		}
	}
	if err != nil {
		f.Close()
		os.Remove(fresh)
		return err
	}
	w.f.Close()
	w.f, w.size, w.retry, w.torn = f, 0, 0, false
	if keepIt {
		w.last++
		w.prune()
		w.pack(w.last)
	}
	return nil
}

// prune removes the files that are too many.
func (w *Writer) prune() {
	w.packer.Lock()
	defer w.packer.Unlock()
	for n := w.oldest() - 1; n > 0; n-- {
		plain, packed := Numbered(w.path, n)
		err1, err2 := os.Remove(plain), os.Remove(packed)
		if err1 != nil && err2 != nil {
			return // what is older went before
		}
	}
}

// oldest is the lowest number that is kept.
func (w *Writer) oldest() int { return w.last - w.o.MaxFiles + 2 }

// pack has the files compressed one after the other, if that is asked for.
func (w *Writer) pack(numbers ...int) {
	if !w.o.Compress || len(numbers) == 0 || w.halted.Load() {
		return
	}
	w.packer.Lock()
	defer w.packer.Unlock()
	if w.pending = append(w.pending, numbers...); !w.packing {
		w.packing = true
		w.packs.Go(w.packAll)
	}
}

func (w *Writer) packAll() {
	for {
		w.packer.Lock()
		if len(w.pending) == 0 {
			w.packing = false
			w.packer.Unlock()
			return
		}
		n := w.pending[0]
		w.pending = w.pending[1:]
		w.packer.Unlock()
		w.packOne(n)
	}
}

// packOne compresses file n. One that can't be compressed, or that is too old by then, stays as it is or goes.
func (w *Writer) packOne(n int) {
	plain, packed := Numbered(w.path, n)
	temp := packed + tempSuffix
	err := w.compress(plain, temp)
	w.packer.Lock()
	defer w.packer.Unlock()
	if _, gone := os.Lstat(plain); err == nil && gone == nil && os.Rename(temp, packed) == nil {
		os.Remove(plain)
		return
	}
	os.Remove(temp)
}

// compress writes from, compressed and with its time, to to.
func (w *Writer) compress(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = os.Chtimes(to, st.ModTime(), st.ModTime())
		}
	}()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		if w.halted.Load() {
			return errHalted
		}
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := z.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return z.Close()
		} else if err != nil {
			return err
		}
	}
}
