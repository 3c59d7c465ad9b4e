package slacktest

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultKind is a way in which a call goes wrong.
type FaultKind int

// Ways to go wrong. The call has no effect, unless it says so.
const (
	RateLimited         FaultKind = iota + 1 // 429 with Retry-After
	RateLimitedNoHeader                      // 429 without one
	RateLimitedOK                            // HTTP 200, ok false, error ratelimited; with Retry-After if there is one
	HTML502                                  // a page of a proxy
	HTML503
	ErrorCode      // HTTP 200, ok false and the code of Fault.Error
	NoCode         // HTTP 200, ok false and no error
	Garbage        // HTTP 200 and no JSON
	Hang           // no answer until the client leaves
	Reset          // the connection breaks
	HangAfterDone  // the effect took place, and no answer comes
	ResetAfterDone // the effect took place, and the connection breaks
	Slow           // the effect took place, and the answer comes Fault.Delay later
)

var faultNames = [...]string{
	"", "429", "429 without Retry-After", "200 ratelimited", "502", "503", "error code", "no error code", "garbage", "hang",
	"reset", "hang after it was done", "reset after it was done", "slow",
}

func (k FaultKind) String() string { return faultNames[k] }

// after says whether the effect takes place.
func (k FaultKind) after() bool { return k >= HangAfterDone }

func (k FaultKind) status() int {
	switch k {
	case RateLimited, RateLimitedNoHeader:
		return http.StatusTooManyRequests
	case HTML502:
		return http.StatusBadGateway
	case HTML503:
		return http.StatusServiceUnavailable
	case Hang, Reset, HangAfterDone, ResetAfterDone:
		return 0
	default:
		return http.StatusOK
	}
}

// Fault makes calls go wrong.
type Fault struct {
	Methods    []string // of the Web API, or upload, or response_url; empty means all
	Kind       FaultKind
	Every      int           // every n-th call; 0 and 1 mean each
	Skip       int           // so many calls go well first
	Times      int           // then so many go wrong at most; 0 means no end
	RetryAfter int           // seconds; 0 means 1 for RateLimited, where further calls inside of it are refused too
	Error      string        // of ErrorCode
	Needed     string        // the scope that is missing, of ErrorCode
	Delay      time.Duration // of Slow

	seen, done int
}

// Inject makes calls go wrong from now on, until the returned function is called. The first fault that applies is taken.
func (s *Server) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &f
	s.faults = append(s.faults, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(x *Fault) bool { return x == p })
	}
}

// fault is what goes wrong with this call, or nil. The lock is held by the caller.
func (s *Server) fault(c *call) *Fault {
	now := time.Now()
	key := "fault " + c.method
	if until := s.blocked[key]; now.Before(until) {
		s.calls[c.index].Inside = true
		left := int(until.Sub(now).Seconds()) + 1
		return &Fault{Kind: RateLimited, RetryAfter: left}
	}
	for _, f := range s.faults {
		if len(f.Methods) > 0 && !slices.Contains(f.Methods, c.method) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || (f.seen-f.Skip)%max(1, f.Every) != 0 || f.Times > 0 && f.done >= f.Times {
			continue
		}
		f.done++
		if f.Kind == RateLimited {
			s.blocked[key] = now.Add(seconds(max(1, f.RetryAfter)))
		}
		return f
	}
	return nil
}

// fail answers as the fault says; true means that the true answer is still to be given.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, f *Fault) bool {
	switch f.Kind {
	case Slow:
		select {
		case <-time.After(f.Delay):
			return true
		case <-r.Context().Done():
		case <-s.done:
		}
	case RateLimited:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, f.RetryAfter)))
		writeJSON(w, http.StatusTooManyRequests, object{"ok": false, "error": "ratelimited"})
	case RateLimitedNoHeader:
		writeJSON(w, http.StatusTooManyRequests, object{"ok": false, "error": "ratelimited"})
	case RateLimitedOK:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		writeJSON(w, http.StatusOK, object{"ok": false, "error": "ratelimited"})
	case HTML502, HTML503:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(f.Kind.status())
		fmt.Fprintf(w, "<html><head><title>%d</title></head><body>%s</body></html>\n", f.Kind.status(), strings.Repeat("Sorry! ", 20))
	case ErrorCode:
		o := object{"ok": false, "error": f.Error}
		if f.Needed != "" {
			o["needed"] = f.Needed
		}
		writeJSON(w, http.StatusOK, o)
	case NoCode:
		writeJSON(w, http.StatusOK, object{"ok": false})
	case Garbage:
		w.WriteHeader(http.StatusOK)
		fmt.Fprint(w, "{\"ok\":tr")
	case Hang, HangAfterDone:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case Reset, ResetAfterDone:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			reset(conn)
		}
	}
	return false
}

// reset breaks a connection with an RST, as a NAT that has forgotten it does.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
