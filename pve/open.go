package pve

import (
	"errors"
	"time"

	"golang.org/x/crypto/ssh"
)

// lastAnswers is how long after the end of a connection an answer that was there may still be on its way to whoever waits.
const lastAnswers = time.Second

// OpenSession is client.NewSession that ends with the connection, which that one may not: when the connection ends while a channel
// is being opened, the channel can get into the list of those that wait for an answer after all in it have been told, and
// then waits for ever, whoever closes the client (openChannel and loop in mux.go of x/crypto/ssh v0.58; on a busy machine it met one
// cut connection in some hundred). A VM that reboots is asked often at such moments. What waits then is left behind, since nothing
// can end it. It is for clients that are closed soon: until then each call leaves a goroutine.
func OpenSession(client *ssh.Client) (*ssh.Session, error) {
	over := make(chan struct{})
	go func() { _ = client.Wait(); close(over) }() // with the client, which the caller closes
	return openSession(client, over)
}

// openSession is [OpenSession] for whoever knows already when the connection is over.
func openSession(client *ssh.Client, over <-chan struct{}) (*ssh.Session, error) {
	type answer struct {
		session *ssh.Session
		err     error
	}
	opened := make(chan answer, 1)
	go func() {
		session, err := client.NewSession()
		opened <- answer{session, err}
	}()
	select {
	case a := <-opened:
		return a.session, a.err
	case <-over:
		select {
		case a := <-opened:
			return a.session, a.err
		case <-time.After(lastAnswers):
			return nil, errors.Join(errors.New("the connection ended while a channel was opened"), client.Wait())
		}
	}
}
