package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A server is one of those compared.
type server struct {
	name string
	cli  testbed.CLI
	pids []int  // of its programs
	port string // transfer.go's: where its container is published
}

// A sample is one run of a task on one server.
type sample struct {
	took time.Duration
	cpu  time.Duration // user and system, of the server and of those of its children that it has waited for
	peak int64         // bytes: the most that the server's largest program had resident
}

// compare times every task on each server in turn and prints a table. Short tasks have one round before that isn't counted.
func compare(ctx context.Context, o opts, servers []*server, all []task) error {
	fmt.Printf("Medians of %d runs (%d of pulls, loads and saves of small images, %d of large ones).\n", o.runs, o.times(middle), o.times(long))
	fmt.Printf("CPU: seconds of the server and its children. Peak: the most memory of the server's largest program, without its children.\n\n")
	fmt.Printf("| docker … | brigd | dockerd | podman | ratio to the better | without the command's own time | CPU brigd, dockerd, podman | peak MiB brigd, dockerd, podman |\n|---|---|---|---|---|---|---|---|\n")
	for _, t := range all {
		if !o.only.MatchString(t.name) {
			continue
		}
		these := slices.Clone(servers)
		if t.only != nil {
			these = slices.DeleteFunc(these, func(s *server) bool { return !slices.Contains(t.only, s.name) })
		}
		if err := t.one(ctx, o, these); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// one times a task and prints its row.
func (t *task) one(ctx context.Context, o opts, servers []*server) (err error) {
	if err := t.prepare(ctx, servers); err != nil {
		return err
	}
	medians, floor, err := t.rounds(ctx, o.times(t.size), servers)
	if err != nil {
		return err
	}
	fmt.Println(t.row(medians, floor))
	return t.finish(ctx, servers)
}

func (o opts) times(s size) int { return max(1, o.runs/[]int{1, 2, 5}[s]) }

// prepare sets every server up; a task that loads gets its archive.
func (t *task) prepare(ctx context.Context, servers []*server) error {
	for _, s := range servers {
		if s.name == t.archiver {
			for _, do := range []step{docker("pull", "-q", t.archiveOf), docker("save", "-o", t.archive, t.archiveOf), docker("rmi", t.archiveOf)} {
				if err := do(ctx, s); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
		if err := errors.Join(t.setup.on(ctx, s), t.fill.on(ctx, s)); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) finish(ctx context.Context, servers []*server) error {
	for _, s := range servers {
		if err := t.end.on(ctx, s); err != nil {
			return err
		}
	}
	if t.archive == "" {
		return nil
	}
	return os.Remove(t.archive)
}

// rounds times the task n times on every server and returns the medians by server, and that of its own command alone, which is timed among them. Each
// round begins with another one, so that nobody always comes after the same one, with what that has left in the caches.
func (t *task) rounds(ctx context.Context, n int, servers []*server) (medians []sample, floor time.Duration, err error) {
	run := make([]func() (sample, error), 0, len(servers)+1)
	for _, s := range servers {
		run = append(run, func() (sample, error) { return t.once(ctx, s) })
	}
	if t.alone != nil {
		alone := &task{do: t.alone}
		run = append(run, func() (sample, error) { return alone.once(ctx, servers[0]) })
	}
	all := make([][]sample, len(run))
	first := 1
	if t.size == long {
		first = 0
	}
	for round := range n + first {
		for i := range run {
			i = (i + round) % len(run)
			got, err := run[i]()
			if err != nil {
				return nil, 0, err
			}
			if round >= first {
				all[i] = append(all[i], got)
			}
		}
	}
	for _, got := range all {
		medians = append(medians, sample{
			took: median(got, func(s sample) int64 { return int64(s.took) }),
			cpu:  median(got, func(s sample) int64 { return int64(s.cpu) }),
			peak: int64(median(got, func(s sample) int64 { return s.peak })),
		})
	}
	if t.alone != nil {
		floor = medians[len(servers)].took
	}
	return medians[:len(servers)], floor, nil
}

func median(all []sample, of func(sample) int64) time.Duration {
	var v []int64
	for _, s := range all {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return time.Duration(v[len(v)/2])
}

// once runs the task on one server. What earlier runs have left to be written is written before, so that no run pays for another.
func (t *task) once(ctx context.Context, s *server) (got sample, err error) {
	if err := t.before.on(ctx, s); err != nil {
		return got, err
	}
	if t.size != short {
		syscall.Sync()
	}
	if err := s.forgetPeak(); err != nil {
		return got, err
	}
	before, err := s.cpu()
	if err != nil {
		return got, err
	}
	begin := time.Now()
	err = t.do.on(ctx, s)
	got.took = time.Since(begin)
	if err != nil {
		return got, err
	}
	after, err := s.cpu()
	if err != nil {
		return got, err
	}
	got.cpu = after - before
	if got.peak, err = s.peak(); err != nil {
		return got, err
	}
	return got, t.after.on(ctx, s)
}

// on does a step, if there is one; the error names the server.
func (do step) on(ctx context.Context, s *server) error {
	if do == nil {
		return nil
	}
	if err := do(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// cpu is what the server's programs and the children that they have waited for have used; fields 14 to 17 of proc_pid_stat(5).
func (s *server) cpu() (time.Duration, error) {
	const perSecond = 100 // USER_HZ, of every architecture that Debian has
	ticks := 0
	for _, pid := range s.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("%s has ended: %w", s.name, err)
		}
		// The command's name, in brackets, may hold anything.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 15 {
			return 0, errors.New("/proc/PID/stat has too few fields")
		}
		for _, v := range f[11:15] {
			n, err := strconv.Atoi(v)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// forgetPeak sets the high-water mark of resident memory back to what is resident now (proc_pid_clear_refs(5)).
func (s *server) forgetPeak() error {
	for _, pid := range s.pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// peak is the highest of the programs' high-water marks, in bytes.
func (s *server) peak() (most int64, err error) {
	for _, pid := range s.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				most = max(most, n<<10)
			}
		}
	}
	return most, nil
}

// row is a line of the table. The first server is compared with the others; columns of servers that have no part in it stay empty.
func (t *task) row(m []sample, floor time.Duration) string {
	var times, cpus, peaks []string
	best := m[1].took
	for i, s := range m {
		says := nice(s.took)
		if t.bytes > 0 {
			says = fmt.Sprintf("%.0f MB/s", float64(t.bytes)/1e6/s.took.Seconds())
		}
		times = append(times, says)
		cpus = append(cpus, fmt.Sprintf("%.2f", s.cpu.Seconds()))
		peaks = append(peaks, strconv.FormatInt(s.peak>>20, 10))
		if i > 0 {
			best = min(best, s.took)
		}
	}
	for len(times) < 3 {
		times = append(times, "")
	}
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | %s | %s |", t.name, strings.Join(times, " | "), float64(m[0].took)/float64(best),
		float64(max(0, m[0].took-floor))/float64(max(1, best-floor)), strings.Join(cpus, ", "), strings.Join(peaks, ", "))
}

func nice(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return ms(d) + " ms"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
