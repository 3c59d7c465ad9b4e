// Package anthropictest is the model for tests and drills: the part of Anthropic's Messages API that the claude CLI
// speaks, on a loopback port, answering from a script. It owns the bytes on the wire, the ways in which they go wrong
// and the record of what was asked. It does not know bgbot, and it never calls out.
package anthropictest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is a running Messages API. Its methods may be called from many goroutines at once.
type Server struct {
	url  string
	http *http.Server
	busy sync.WaitGroup // the accept loop and every handler

	mu       sync.Mutex // guards the rest
	model    Model
	requests []Request
	strays   []string
	tries    map[string]int // by session, prompt and step
	minted   int            // ids given out
	closed   bool
}

// Start serves model on a free port of 127.0.0.1 until Close. A nil model answers with empty texts.
func Start(model Model) (*Server, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("anthropictest: %w", err)
	}
	s := &Server{url: "http://" + ln.Addr().String(), tries: map[string]int{}}
	s.SetModel(model)
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	s.busy.Go(func() { _ = s.http.Serve(ln) }) // it always ends with ErrServerClosed
	return s, nil
}

// URL is what ANTHROPIC_BASE_URL must say. Any path may be added to it, to tell runs apart.
func (s *Server) URL() string { return s.url }

// SetModel replaces the model for requests that come from now on.
func (s *Server) SetModel(model Model) {
	if model == nil {
		model = func(Request) Answer { return Answer{} }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model = model
}

// Requests is every call for an answer so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Strays is every call that was not for an answer, a token count or a sign of life, as "METHOD /path".
func (s *Server) Strays() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.strays)
}

// Close hangs up on every client and returns when all handlers have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.http.Close()
	s.busy.Wait()
	return err
}

// Refuse gives the URL of a port that refuses connections, and holds the port until release, so that nobody else can
// come to listen there.
func Refuse() (url string, release func() error, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("anthropictest: %w", err)
	}
	release = func() error { return syscall.Close(fd) }
	// Bound and never listening: the kernel answers with a reset.
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", nil, errors.Join(err, release())
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return "", nil, errors.Join(err, release())
	}
	v4, ok := at.(*syscall.SockaddrInet4)
	if !ok {
		return "", nil, errors.Join(fmt.Errorf("anthropictest: bound to %T", at), release())
	}
	return fmt.Sprintf("http://127.0.0.1:%d", v4.Port), release, nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.busy.Add(1)
	s.mu.Unlock()
	defer s.busy.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client left while it wrote
	}
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/v1/messages"):
		s.messages(w, r, body)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/v1/messages/count_tokens"):
		writeJSON(w, http.StatusOK, map[string]int{"input_tokens": 1 + len(body)/4})
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	default:
		s.mu.Lock()
		s.strays = append(s.strays, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		writeJSON(w, http.StatusNotFound, apiError("not_found_error", "there is nothing at "+r.URL.Path))
	}
}

// messages records the request, asks the model and answers, or fails as the answer says.
func (s *Server) messages(w http.ResponseWriter, r *http.Request, body []byte) {
	req, err := decode(body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, apiError("invalid_request_error", err.Error()))
		return
	}
	req.Header, req.At = r.Header.Clone(), time.Now()
	s.mu.Lock()
	index := len(s.requests)
	s.requests = append(s.requests, req)
	model := s.model
	key := fmt.Sprint(req.Header.Get("X-Claude-Code-Session-Id"), req.Step, req.Prompt)
	s.tries[key]++
	try := s.tries[key]
	s.mu.Unlock()
	defer func() {
		if r.Context().Err() != nil {
			s.mu.Lock()
			s.requests[index].Left = true
			s.mu.Unlock()
		}
	}()

	a := model(req)
	if (a.Status != 0 || a.Fault != NoFault) && a.Times > 0 && try > a.Times {
		a.Status, a.Fault = 0, NoFault
		if a.Text == "" && len(a.Bash) == 0 && len(a.Tools) == 0 {
			a.Text = "recovered"
		}
	}
	s.mu.Lock()
	s.minted++
	id := s.minted
	s.mu.Unlock()
	reply(w, r, req, a, id)
}
