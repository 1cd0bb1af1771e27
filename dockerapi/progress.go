package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/brigd/brig/internal/brig"
)

// progressMessage is one line of a pull's or a build's report. moby's Message has dropped error and progress, which clients up to 1.51 get.
type progressMessage struct {
	Stream       string               `json:"stream,omitempty"`
	Status       string               `json:"status,omitempty"`
	Detail       *jsonstream.Progress `json:"progressDetail,omitempty"`
	ProgressText string               `json:"progress,omitempty"`
	ID           string               `json:"id,omitempty"`
	ErrorDetail  *jsonstream.Error    `json:"errorDetail,omitempty"`
	Error        string               `json:"error,omitempty"`
	Aux          any                  `json:"aux,omitempty"`
}

// A progressWriter sends progress as it comes. The answer's headers go out with the first line.
type progressWriter struct {
	a    *answer
	stop context.CancelFunc // called when the client can't be written to any more
	bars bool               // send bars too
}

// withProgress answers with what work reports. An error before the first line is answered as one; after that it is the last line.
func withProgress(ctx context.Context, bars bool, work func(ctx context.Context, report func(brig.Progress)) error) response {
	return func(a *answer) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		p := &progressWriter{a: a, stop: cancel, bars: bars}
		err := work(ctx, p.report)
		if err != nil && a.begun() {
			p.send(progressMessage{ErrorDetail: &jsonstream.Error{Message: err.Error()}, Error: err.Error()})
			return nil
		}
		if err == nil && !a.begun() {
			a.Header().Set("Content-Type", "application/json")
			a.WriteHeader(200)
		}
		return err
	}
}

func (p *progressWriter) report(b brig.Progress) {
	if b.Stream == "" && !p.bars {
		return
	}
	p.send(newProgressMessage(b))
}

func (p *progressWriter) send(m progressMessage) {
	line, err := json.Marshal(m) // nothing in m can fail
	if err == nil {
		if !p.a.begun() {
			p.a.Header().Set("Content-Type", "application/json")
		}
		_, err = p.a.Write(append(line, '\r', '\n'))
		p.a.Flush()
	}
	if err != nil {
		p.stop()
	}
}

var layerRE = regexp.MustCompile(`^[0-9a-f]{12}$`)

// newProgressMessage gives progressDetail to every line about a layer, with or without a bar: by it clients tell the lines that they
// write over from those that they leave.
func newProgressMessage(b brig.Progress) progressMessage {
	m := progressMessage{Stream: b.Stream, Status: b.Status, ID: b.ID}
	if b.Pushed != nil {
		m.Aux = b.Pushed
	}
	if b.Current != 0 || b.Total != 0 || layerRE.MatchString(b.ID) {
		m.Detail = &jsonstream.Progress{Current: b.Current, Total: b.Total}
		m.ProgressText = barText(b.Current, b.Total)
	}
	return m
}

const barWidth = 50

// barText is the bar as older clients show it, "[====>    ]  1.2MB/5MB"; "" without numbers.
func barText(current, total int64) string {
	if current <= 0 && total <= 0 {
		return ""
	}
	if total <= 0 || current > total {
		return fmt.Sprintf("%8v", units.HumanSize(float64(current)))
	}
	n := int(float64(current) / float64(total) * barWidth)
	return fmt.Sprintf("[%s>%s] %8v/%v", strings.Repeat("=", n), strings.Repeat(" ", barWidth-n),
		units.HumanSize(float64(current)), units.HumanSize(float64(total)))
}
