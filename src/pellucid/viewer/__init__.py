"""The viewer: a local web app over a folder of scans. Work runs in a queue; FastAPI is imported when the app is built."""
