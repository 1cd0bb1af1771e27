package metadata

import (
	"sync"
	"time"
)

// rate is how much of something there is.
type rate struct {
	perSecond, burst float64
}

var (
	podRate  = rate{5000, 10000} // requests of one pod
	lineRate = rate{20, 200}     // lines of the access log for one pod
)

// bucket gives out as much as its rate allows.
type bucket struct {
	rate
	mu   sync.Mutex
	left float64
	last time.Time
}

func newBucket(r rate) *bucket { return &bucket{rate: r, left: r.burst, last: time.Now()} }

// take takes one; false: there is none now.
func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.burst, b.left+now.Sub(b.last).Seconds()*b.perSecond)
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
