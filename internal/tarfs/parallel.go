package tarfs

import (
	"archive/tar"
	"context"
	"io"
	"math"
	"math/bits"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Extraction by several goroutines: the one that reads the archive resolves names and does all that depends on order, and hands
// the contents of regular files to workers, who make, write and close them. A file that a worker still has is pending; whoever needs
// its path first waits for it (settle). Files of one directory go to one worker while it has any of them, for the kernel locks
// a directory while it makes a name in it.

const (
	maxChunk  = 256 << 10 // bytes of a file handed over at once; larger files go in pieces
	minChunk  = 512
	maxFlight = 4 << 20 // bytes that all workers of one extraction hold together
	jobCost   = 4 << 10 // what a job counts besides its data, so that small ones are bounded too
	// maxWorkers: more than this only wait for the file system.
	maxWorkers = 4
)

// job is a file, or a piece of one.
type job struct {
	seq    int64 // number of the archive's entry
	parent *dir
	base   string
	h      *tar.Header
	data   *[]byte
	file   *piecewise // nil: data is the whole file
	last   bool       // of a file in pieces
	broken bool       // the archive ended within the file: only close it
}

// piecewise is a file that goes to its worker in pieces.
type piecewise struct {
	fd   int
	drop bool // the workers' own: writing failed, so only close it
}

func (j *job) cost() int64 {
	if j.data == nil {
		return jobCost
	}
	return jobCost + int64(cap(*j.data))
}

// pool is the workers of one extraction. Its methods are for the goroutine that reads the archive.
type pool struct {
	x      *extractor
	queues []chan job
	wg     sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	until   func() bool // what the reader waits for; nil: nothing
	load    []int64     // cost of what each worker has
	flight  int64       // sum of load
	pending map[string]int
	failed  int64 // the first entry, in the archive's order, that could not be extracted
	err     error

	buffers [bits.UintSize]sync.Pool // by the power of two that they hold
}

// startPool returns nil if there shall be no workers.
func startPool(x *extractor) *pool {
	n := x.o.Workers
	if n == 0 {
		n = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	if n < 2 || !x.o.layer() {
		return nil
	}
	p := &pool{x: x, queues: make([]chan job, n), load: make([]int64, n), pending: map[string]int{}, failed: math.MaxInt64}
	p.changed.L = &p.mu
	for i := range p.queues {
		p.queues[i] = make(chan job, maxFlight/jobCost)
		p.wg.Go(func() { p.work(i) })
	}
	return p
}

// stop ends the workers, who first do what they have, and returns the first error in the archive's order: theirs, if there is one,
// for the reader stopped at a later entry than any that it gave them, or else its own, which is err.
func (p *pool) stop(err error) error {
	for _, q := range p.queues {
		close(q)
	}
	p.wg.Wait()
	if p.err != nil {
		return p.err
	}
	return err
}

// wait waits until done, which is called with mu held.
func (p *pool) wait(done func() bool) {
	p.until = done
	for !done() {
		p.changed.Wait()
	}
	p.until = nil
}

// settle waits until no worker has the file at the path at.
func (p *pool) settle(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending[at] > 0 {
		p.wait(func() bool { return p.pending[at] == 0 })
	}
}

// settleAll waits until the workers have done all that they were given.
func (p *pool) settleAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait(func() bool { return p.flight == 0 })
}

// settleIn waits until no worker has a file of the directory k.
func (p *pool) settleIn(k *dir) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait(func() bool { return k.pending == 0 })
}

// failure returns the workers' first error so far.
func (p *pool) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// put hands j to a worker: the one that has files of its directory, or the one with the least to do.
func (p *pool) put(j job) {
	cost := j.cost()
	p.mu.Lock()
	if p.flight+cost > maxFlight {
		p.wait(func() bool { return p.flight <= maxFlight/2 })
	}
	if j.parent.pending == 0 {
		j.parent.worker = 0
		for i, n := range p.load {
			if n < p.load[j.parent.worker] {
				j.parent.worker = i
			}
		}
	}
	to := j.parent.worker
	j.parent.pending++
	p.pending[join(j.parent.path, j.base)]++
	p.load[to] += cost
	p.flight += cost
	p.mu.Unlock()
	p.queues[to] <- j
}

func (p *pool) work(i int) {
	for j := range p.queues[i] {
		p.mu.Lock()
		skip := j.seq > p.failed // an earlier entry failed: this one would not have been reached
		p.mu.Unlock()
		at := join(j.parent.path, j.base)
		err := p.run(&j, at, skip)
		cost := j.cost()
		if j.data != nil {
			p.release(j.data)
		}
		p.mu.Lock()
		if err != nil && j.seq < p.failed {
			p.failed, p.err = j.seq, err
		}
		p.load[i] -= cost
		p.flight -= cost
		j.parent.pending--
		if p.pending[at]--; p.pending[at] == 0 {
			delete(p.pending, at)
		}
		if p.until != nil && p.until() {
			p.changed.Signal()
		}
		p.mu.Unlock()
	}
}

// run does one job; a file in pieces is closed with its last one, come what may.
func (p *pool) run(j *job, at string, skip bool) error {
	if j.file == nil {
		if skip {
			return nil
		}
		return p.x.wholeFile(j.parent, j.base, at, j.h, *j.data)
	}
	var err error
	if !skip && !j.file.drop && j.data != nil {
		err = p.x.fail("write", at, writeAll(j.file.fd, *j.data))
		j.file.drop = err != nil
	}
	if !j.last {
		return err
	}
	if !skip && !j.file.drop && !j.broken {
		err = p.x.attrs(node{j.parent.fd, j.base, j.file.fd}, at, j.h)
	}
	if cerr := closeFile(j.file.fd); err == nil && !skip {
		err = p.x.fail("close", at, cerr)
	}
	return err
}

// buffer returns one of n bytes, at most maxChunk.
func (p *pool) buffer(n int) *[]byte {
	class := bits.Len(uint(max(n, minChunk) - 1))
	b, _ := p.buffers[class].Get().(*[]byte)
	if b == nil {
		made := make([]byte, 1<<class)
		b = &made
	}
	*b = (*b)[:n]
	return b
}

func (p *pool) release(b *[]byte) { p.buffers[bits.Len(uint(cap(*b)-1))].Put(b) }

// file takes a regular file from r. ok is false if it has to be done in order, by the reader itself.
func (p *pool) file(ctx context.Context, parent *dir, base string, h *tar.Header, r io.Reader) (ok bool, err error) {
	if isSparse(h) {
		return false, nil
	}
	if !parent.plain {
		p.settle(join(parent.path, base))
		st, err := lstat(parent.fd, base)
		if err != unix.ENOENT && (err != nil || st.kind() != unix.S_IFREG) {
			return false, nil
		}
	}
	p.x.note(join(parent.path, base))
	p.x.stats.Bytes += h.Size
	j := job{seq: p.x.stats.Entries, parent: parent, base: base, h: h}
	if h.Size > maxChunk {
		return true, p.pieces(ctx, j, r)
	}
	j.data = p.buffer(int(h.Size))
	if _, err := io.ReadFull(r, *j.data); err != nil {
		p.release(j.data)
		return true, archiveError(unexpected(err))
	}
	p.put(j)
	return true, nil
}

// pieces hands over a large file.
func (p *pool) pieces(ctx context.Context, j job, r io.Reader) error {
	p.settle(join(j.parent.path, j.base))
	fd, err := p.x.newFile(j.parent, j.base, j.h)
	if err != nil {
		return err
	}
	j.file = &piecewise{fd: fd}
	for left := j.h.Size; left > 0; {
		j.data = p.buffer(int(min(left, maxChunk)))
		n, err := io.ReadFull(r, *j.data)
		if err == nil {
			err = ctx.Err()
		} else {
			err = archiveError(unexpected(err))
		}
		if err != nil {
			p.release(j.data)
			j.data, j.last, j.broken = nil, true, true
			p.put(j)
			return err
		}
		left -= int64(n)
		j.last = left == 0
		p.put(j)
	}
	return nil
}

// unexpected: an archive that ends within a file has not ended.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
