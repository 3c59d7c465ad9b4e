package slacktest

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

type upload struct {
	file File
	size int
	done bool
}

func (s *Server) filesGetUploadURLExternal(c *call) (object, error) {
	size, err := strconv.Atoi(c.arg("length"))
	if err != nil || size <= 0 || c.arg("filename") == "" {
		return nil, invalid("invalid_arguments", "[ERROR] filename and length are required")
	}
	id := s.id("F")
	s.uploads[id] = &upload{file: File{ID: id, Name: c.arg("filename"), Title: c.arg("filename")}, size: size}
	return object{"upload_url": "http://" + s.address + "/upload/" + id, "file_id": id}, nil
}

// upload takes the bytes of a file, bare or as a form.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return // the client left while it wrote
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "multipart/form-data" {
		part, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).NextPart()
		if err != nil {
			http.Error(w, "no file in the form", http.StatusBadRequest)
			return
		}
		if body, err = io.ReadAll(part); err != nil {
			http.Error(w, "half a file in the form", http.StatusBadRequest)
			return
		}
	}
	s.serve(w, r, &call{method: "upload", args: map[string]string{"id": r.PathValue("id")}}, func() answer {
		u := s.uploads[r.PathValue("id")]
		if u == nil || u.file.Data != nil || len(body) != u.size {
			return failed(http.StatusBadRequest, "no such upload, or not of the length that was announced")
		}
		u.file.Data = body
		u.file.Type, _, _ = strings.Cut(http.DetectContentType(body), ";")
		return answer{status: http.StatusOK, text: "OK - " + strconv.Itoa(len(body))}
	})
}

// multipartForm reads the fields of a form.
func multipartForm(body []byte, boundary string) (map[string]string, error) {
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(4 << 20)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for k, v := range form.Value {
		all[k] = v[0]
	}
	return all, nil
}

func (s *Server) filesCompleteUploadExternal(c *call) (object, error) {
	var in []struct{ ID, Title string }
	if json.Unmarshal([]byte(c.arg("files")), &in) != nil || len(in) == 0 {
		return nil, invalid("invalid_arguments", "[ERROR] missing required field: files")
	}
	var files []File
	for _, f := range in {
		u := s.uploads[f.ID]
		if u == nil || u.file.Data == nil || u.done {
			return nil, refuse("file_not_found")
		}
		if f.Title != "" {
			u.file.Title = f.Title
		}
		files = append(files, u.file)
	}
	if id := c.arg("channel_id"); id != "" {
		ch, err := s.talk(id)
		if err != nil {
			return nil, err
		}
		said, err := s.content(&call{args: map[string]string{"text": c.arg("initial_comment"), "blocks": c.arg("blocks")}})
		if err != nil {
			return nil, err
		}
		thread, err := threadOf(ch, c.arg("thread_ts"))
		if err != nil {
			return nil, err
		}
		s.add(ch, &Message{
			TS: s.stamp(time.Now()), ThreadTS: thread, User: botUserID, BotID: botID, team: teamID, Text: said.text, Blocks: said.blocks,
			Files: slices.Clone(files), At: time.Now(),
		})
	}
	for _, f := range files {
		s.uploads[f.ID].done = true
	}
	return object{"files": filesWire(files)}, nil
}
