CREATE TABLE goods (name text); INSERT INTO goods VALUES ('lamp'), ('rope'), ('tent');
